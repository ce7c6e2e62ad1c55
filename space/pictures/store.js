/* The session's detector in the browser's own storage, so that a reload does not lose it. */

const PLACE = "asd-detector";

function inStore(mode, act) {
  return new Promise(resolve => {
    const opening = indexedDB.open(PLACE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(PLACE);
    opening.onerror = () => resolve("");  // a browser that keeps nothing, as in private windows
    opening.onsuccess = () => {
      const database = opening.result, transaction = database.transaction(PLACE, mode), request = act(transaction.objectStore(PLACE));
      transaction.oncomplete = () => { database.close(); resolve(request.result ?? ""); };
      transaction.onerror = transaction.onabort = () => { database.close(); resolve(""); };
    };
  });
}

// An empty text forgets; no text, where the app had nothing to keep, changes nothing.
function keep(text) {
  if (typeof text !== "string") return Promise.resolve("");
  return inStore("readwrite", store => text ? store.put(text, MODEL.version) : store.clear());
}

function kept() {
  return inStore("readonly", store => store.get(MODEL.version));
}
