// Which pods are left alone. Nothing here knows of WebAssembly, so `node --test` reaches all of it.

const KNOWN = ['namespaces', 'labels'];

/**
 * Reads the settings, a JSON text or an empty one:
 *
 *     {"namespaces": ["dev"], "labels": {"team": "x"}}
 *
 * Throws what is wrong with them, in words for the person who wrote them.
 */
export function read(text) {
  const settings = text === '' ? {} : JSON.parse(text);
  if (!isObject(settings)) throw new Error('the settings are not an object');
  const unknown = Object.keys(settings).filter((key) => !KNOWN.includes(key));
  if (unknown.length > 0) {
    throw new Error(`"${unknown[0]}" is not a setting; there are ${KNOWN.map((key) => `"${key}"`).join(' and ')}`);
  }
  const { namespaces = [], labels = {} } = settings;
  if (!Array.isArray(namespaces) || !namespaces.every(isString)) {
    throw new Error('"namespaces" is not a list of names');
  }
  if (!isObject(labels) || !Object.values(labels).every(isString)) {
    throw new Error('"labels" is not an object of labels and values');
  }
  return { namespaces, labels };
}

/**
 * Why a pod is left alone, or undefined where it is not. `label` gives the value of one of its labels, or undefined;
 * it is only called for labels that the settings name.
 */
export function reason({ namespaces, labels }, namespace, label) {
  if (namespaces.includes(namespace)) return `pods in the namespace ${namespace} are skipped`;
  const found = Object.entries(labels).find(([key, value]) => label(key) === value);
  return found && `pods labelled ${found.join('=')} are skipped`;
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isString(value) {
  return typeof value === 'string';
}
