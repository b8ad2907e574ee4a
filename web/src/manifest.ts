/** What the page needs of a bundle's manifest, read with care: a file may say anything. */

import { EdgeError } from "./errors";
import type { Size } from "./geometry";
import { colourFrom, type Colour } from "./palette";
import { preprocessingFrom, type Preprocessing } from "./preprocessing";

/** A file of the bundle; its content has this digest. */
export interface BundleFile {
  path: string;
  sha256: string;
}

/** One model: a core count in a precision at an image size. `weights` are files that it may refer to. */
export interface Variant {
  file: BundleFile;
  weights: BundleFile[];
  coreCount: number;
  precision: string;
  size: Size;
  input: "image" | "tensor";
  outputs: string[];
}

export interface Bundle {
  name: string;
  variants: Variant[];
  preprocessing: Preprocessing;
  patchSize: number;
  labels: string[] | null;
  maskLabels: string[] | null;
  maskColours: Colour[] | null;
}

const FORMAT = "onnx";
const SCHEMA_VERSION = 1;
const DIGEST = /^[0-9a-f]{64}$/;
const PATH = /^(?!\/)(?!.*(^|\/)\.\.(\/|$))[^\\:?#\0]+$/;

type Json = Record<string, unknown>;

export function bundleFrom(value: unknown): Bundle {
  const manifest = object(value, "The manifest");
  if (manifest.schema_version !== SCHEMA_VERSION)
    throw new EdgeError(
      `The bundle has the schema version ${String(manifest.schema_version)}; this page reads ${SCHEMA_VERSION}.`,
      "Serve it with the version of veca-edge that exported it.",
    );
  const digests = object(manifest.files, "files");
  const variants = array(manifest.artifacts, "artifacts")
    .map((item) => object(item, "an artifact"))
    .filter((item) => item.format === FORMAT)
    .map((item) => variantFrom(item, digests));
  if (!variants.length)
    throw new EdgeError("The bundle holds no ONNX files.", "Export one with: veca-edge export --target cpu");
  const checkpoint = object(manifest.checkpoint, "checkpoint");
  const heads = array(manifest.heads ?? [], "heads").map((head) => object(head, "a head"));
  const segment = heads.find((head) => head.task === "segment");
  const palette = segment?.palette ? names(segment.palette, "palette") : null;
  return {
    name: text(checkpoint.name, "the checkpoint's name"),
    variants,
    preprocessing: preprocessingFrom(manifest.preprocessing),
    patchSize: count(object(checkpoint.config, "config").patch_size, "patch_size"),
    labels: manifest.labels ? names(manifest.labels, "labels") : null,
    maskLabels: segment?.labels ? names(segment.labels, "labels") : null,
    maskColours: palette && palette.map(colourFrom),
  };
}

function variantFrom(item: Json, digests: Json): Variant {
  const path = text(item.path, "a path");
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const [height, width] = array(item.image_size, "image_size").map((side) => count(side, "image_size"));
  if (item.batch !== 1)
    throw new EdgeError(
      `This bundle takes ${String(item.batch)} images a call, and a camera gives one.`,
      "Export with --batch 1.",
    );
  if (item.input !== "image" && item.input !== "tensor") throw damaged("input");
  return {
    file: fileFrom(path, item.sha256),
    // Of the files beside it, those that are no models: its constants.
    weights: Object.keys(digests)
      .filter((name) => name.startsWith(folder) && !name.slice(folder.length).includes("/") && name.endsWith(".bin"))
      .map((name) => fileFrom(name, digests[name])),
    coreCount: count(item.core_count, "core_count"),
    precision: text(item.precision, "precision"),
    size: { height, width },
    input: item.input,
    outputs: names(item.outputs, "outputs"),
  };
}

function fileFrom(path: string, sha256: unknown): BundleFile {
  if (!PATH.test(path)) throw damaged(`path ${path}`);
  if (typeof sha256 !== "string" || !DIGEST.test(sha256)) throw damaged(`digest of ${path}`);
  return { path, sha256 };
}

export function nameOf(size: Size): string {
  return `${size.height}x${size.width}`;
}

function damaged(what: string): EdgeError {
  return new EdgeError(`The manifest's ${what} can't be read.`, "Copy or export the bundle again.");
}

function object(value: unknown, what: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw damaged(what);
  return value as Json;
}

function array(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw damaged(what);
  return value;
}

function text(value: unknown, what: string): string {
  if (typeof value !== "string") throw damaged(what);
  return value;
}

function names(value: unknown, what: string): string[] {
  return array(value, what).map((item) => text(item, what));
}

function count(value: unknown, what: string): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) throw damaged(what);
  return value;
}
