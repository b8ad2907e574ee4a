/** Where frames come from: the camera, a picture file or a video file. */

import { EdgeError } from "./errors";

/** The picture as it is in the file: the EXIF orientation is applied, colour profiles are not. */
const AS_STORED: ImageBitmapOptions = { imageOrientation: "from-image", colorSpaceConversion: "none" };

export interface Source {
  name: string;
  /** Whether frames go on coming by themselves. */
  isLive: () => boolean;
  /** The frame of now. */
  frame: () => Promise<ImageBitmap>;
  close: () => void;
}

export async function openCamera(video: HTMLVideoElement): Promise<Source> {
  if (!navigator.mediaDevices)
    throw new EdgeError("This browser gives no camera to this page.", "Open it over HTTPS, or on localhost.");
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } },
    });
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "NotAllowedError")
      throw new EdgeError("The camera was not allowed.", "Allow it for this page in the browser's settings.");
    if (name === "NotFoundError") throw new EdgeError("There is no camera.", "Connect one, or choose a file.");
    throw new EdgeError(`The camera can't be opened: ${String(error)}`, "Close other programs that use it.");
  }
  video.srcObject = stream;
  video.controls = false;
  await video.play();
  return videoSource("camera", video, () => {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  });
}

export async function openFile(file: File, video: HTMLVideoElement): Promise<Source> {
  if (file.type.startsWith("video/")) return openVideo(file, video);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, AS_STORED);
  } catch {
    throw new EdgeError(`${file.name} can't be read as a picture.`, "Choose a JPEG, PNG, WebP, GIF or BMP file.");
  }
  return {
    name: file.name,
    isLive: () => false,
    frame: () => createImageBitmap(bitmap),
    close: () => bitmap.close(),
  };
}

async function openVideo(file: File, video: HTMLVideoElement): Promise<Source> {
  const url = URL.createObjectURL(file);
  video.src = url;
  video.controls = true;
  video.hidden = false;
  try {
    await new Promise((done, failed) => {
      video.onloadeddata = done;
      video.onerror = failed;
    });
    await video.play();
  } catch {
    URL.revokeObjectURL(url);
    video.hidden = true;
    throw new EdgeError(`${file.name} can't be played by this browser.`, "Choose a WebM or MP4 file.");
  }
  return videoSource(file.name, video, () => {
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.hidden = true;
    URL.revokeObjectURL(url);
  });
}

function videoSource(name: string, video: HTMLVideoElement, close: () => void): Source {
  return {
    name,
    isLive: () => !video.paused && !video.seeking,
    frame: () => createImageBitmap(video),
    close: () => {
      video.onloadeddata = video.onerror = null;
      close();
    },
  };
}
