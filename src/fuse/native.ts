export function mountNative(_a: unknown): never { throw new Error('not yet'); }
