/** Files of the bundle, fetched whole and compared with the digests that the manifest states. */

import { EdgeError } from "./errors";
import { bundleFrom, type Bundle, type BundleFile } from "./manifest";

/** The bundle lies beside the page. */
const FOLDER = "bundle/";
export const MANIFEST = `${FOLDER}manifest.json`;

/** The digest is part of the address, so that a cache never gives the file of another bundle. */
export function addressOf(file: BundleFile): string {
  return `${FOLDER}${file.path.split("/").map(encodeURIComponent).join("/")}?sha256=${file.sha256}`;
}

export async function fetchBundle(base: string): Promise<Bundle> {
  const response = await fetched(new URL(MANIFEST, base));
  return bundleFrom(await response.json());
}

export async function fetchFile(base: string, file: BundleFile): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetched(new URL(addressOf(file), base));
  const content = new Uint8Array(await response.arrayBuffer());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== file.sha256)
    throw new EdgeError(`${file.path} is not the file that the manifest speaks of.`, "Load the page again.");
  return content;
}

async function fetched(url: URL): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch {
    throw new EdgeError(
      `${url.pathname} can't be loaded: the server does not answer.`,
      "Start it again, and load the page again.",
    );
  }
  if (!response.ok)
    throw new EdgeError(`${url.pathname} can't be loaded: the server says ${response.status}.`, await response.text());
  return response;
}
