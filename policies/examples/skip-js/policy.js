// Between the contract (wit/, world `filtering`) and the decision: what the host asks is answered by decision.js.

import { log, settings } from 'cache-registry:policy/host@0.1.0';
import { read, reason } from './decision.js';

export const check = {
  check() {
    try {
      read(settings());
    } catch (error) {
      // What is thrown with a payload is the contract's error; anything else would be a trap.
      throw Object.assign(error, { payload: error.message });
    }
  },
};

export const filter = {
  filter(pod) {
    try {
      const why = reason(read(settings()), pod.namespace(), (key) => pod.label(key));
      return why === undefined ? { tag: 'pass' } : { tag: 'ignore', val: why };
    } catch (error) {
      // A trap: what was logged last is quoted to the pod's author.
      log('error', String(error));
      throw error;
    }
  },
};
