export * from './errors.js';
export * from './gpu/device.js';
export * from './gpu/target.js';
