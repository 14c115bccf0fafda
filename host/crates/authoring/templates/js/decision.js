// What the policy decides. Nothing here knows of WebAssembly, so `npm test` reaches all of it.

/**
 * Reads the settings, `namespaces: [ci, scratch]`, which arrive as a JSON text or an empty one. Throws what is wrong
 * with them, in words for the person who wrote them.
 */
export function read(text) {
  const settings = text === '' ? {} : JSON.parse(text);
  for (const key of Object.keys(settings)) {
    if (key !== 'namespaces') throw new Error(`"${key}" is not a setting; there is "namespaces"`);
  }
  const { namespaces = [] } = settings;
  const named = (name) => typeof name === 'string' && name !== '';
  if (!Array.isArray(namespaces) || !namespaces.every(named)) throw new Error('"namespaces" is not a list of names');
  return { namespaces };
}

/** Why a pod's images are left alone, or undefined where the next policy is asked. */
export function reason({ namespaces }, namespace) {
  return namespaces.includes(namespace) ? `images are not cached for namespace ${namespace}` : undefined;
}
