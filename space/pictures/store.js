/* The browser's own storage, so that a reload loses nothing: the session's detector, and the verdicts over days. */

const DETECTOR = "asd-detector", HISTORY = "asd-history";

// Each place is a database with one store of the same name. `act` returns the request whose result is wanted; null is a failure.
function inStore(place, mode, act) {
  return new Promise(resolve => {
    const opening = indexedDB.open(place, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(place);
    opening.onerror = () => resolve(null);  // a browser that keeps nothing, as in private windows
    opening.onsuccess = () => {
      const database = opening.result, transaction = database.transaction(place, mode), request = act(transaction.objectStore(place));
      transaction.oncomplete = () => { database.close(); resolve(request?.result ?? ""); };
      transaction.onerror = transaction.onabort = () => { database.close(); resolve(null); };
    };
  });
}

// The files that are kept or on their way: what is asked for later wins, however long the fetching takes.
let latestFiles = null;

// Fetch the files of the session's detector and keep them as a text. An answer without new files changes nothing.
async function keep(files) {
  const asked = files?.[0]?.url;
  if (!asked || asked === latestFiles) return;
  latestFiles = asked;
  try {
    const contents = await Promise.all(files.map(async ({ url, orig_name }) => [orig_name, await inBase64(await fetched(url))]));
    const text = JSON.stringify(Object.fromEntries(contents));
    if (asked === latestFiles && await inStore(DETECTOR, "readwrite", store => store.put(text, MODEL.version)) === null) throw new Error("nothing is kept");
  } catch {
    if (asked !== latestFiles) return;
    latestFiles = null;
    document.querySelectorAll(".asd-kept").forEach(said => { said.textContent = say("enroll.not_kept_here"); });
  }
}

async function fetched(url) {
  const { pathname, search } = new URL(url, location.href);  // behind a proxy the app may not know its own host
  const answer = await fetch(pathname + search);
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.blob();
}

function inBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.replace(/^[^,]*,/, ""));
    reader.onerror = reject;
    reader.readAsDataURL(blob);
  });
}

function forgetDetector() {
  latestFiles = null;
  return inStore(DETECTOR, "readwrite", store => store.clear());
}

async function kept() {
  return await inStore(DETECTOR, "readonly", store => store.get(MODEL.version)) ?? "";
}

// Verdicts, each under its recording's key; true if the browser keeps them. A recording that is judged again keeps its place in time.
async function remember(rows) {
  if (!rows.length) return true;
  const done = await inStore(HISTORY, "readwrite", store => {
    for (const row of rows) {
      const before = store.get(row.key);
      before.onsuccess = () => store.put(before.result ? again(before.result, row) : row, row.key);
    }
  });
  document.dispatchEvent(new Event("asd-remembered"));
  return done !== null;
}

async function remembered() {
  return await inStore(HISTORY, "readonly", store => store.getAll()) || [];
}

function forget(keys) {
  return inStore(HISTORY, "readwrite", store => { for (const key of keys) store.delete(key); });
}
