/** Where frames come from: the camera, a picture file or a video file. */

import { EdgeError } from "./errors";

/** The picture as it is in the file: the EXIF orientation is applied, colour profiles are not. */
const AS_STORED: ImageBitmapOptions = { imageOrientation: "from-image", colorSpaceConversion: "none" };

/** `captured`: when, in milliseconds on the clock of `clock()`. */
export interface Frame {
  bitmap: ImageBitmap;
  captured: number;
}

export interface Source {
  name: string;
  /** Whether frames go on coming by themselves. */
  isLive: () => boolean;
  /** The next frame of a source that is live, each once; of another, what it shows. */
  frame: () => Promise<Frame>;
  close: () => void;
}

/** Milliseconds on a clock that the page and its worker share. */
export function clock(): number {
  return performance.timeOrigin + performance.now();
}

/** What a source says by itself: a video shows another frame; the camera has ended. */
export interface Listener {
  onFrame: () => void;
  onLost: (error: EdgeError) => void;
}

export async function openCamera(video: HTMLVideoElement, { onFrame, onLost }: Listener): Promise<Source> {
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
  const [track] = stream.getVideoTracks();
  track.onended = () => onLost(new EdgeError("The camera has ended.", "Connect it again, then choose it again."));
  const close = () => {
    track.onended = null;
    track.stop();
    video.srcObject = null;
  };
  const presented = new Presented(video, onFrame);
  video.srcObject = stream;
  video.controls = false;
  try {
    await video.play();
    await presented.first();
  } catch (error) {
    presented.close();
    close();
    throw new EdgeError(`The camera can't be opened: ${String(error)}`, "Close other programs that use it.");
  }
  return videoSource(track.label || "Camera", video, presented, close);
}

export async function openFile(file: File, video: HTMLVideoElement, { onFrame }: Listener): Promise<Source> {
  if (file.type.startsWith("video/")) return openVideo(file, video, onFrame);
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, AS_STORED);
  } catch {
    throw new EdgeError(`${file.name} can't be read as a picture.`, "Choose a JPEG, PNG, WebP, GIF or BMP file.");
  }
  return {
    name: file.name,
    isLive: () => false,
    frame: async () => {
      const captured = clock();
      return { bitmap: await createImageBitmap(bitmap), captured };
    },
    close: () => bitmap.close(),
  };
}

async function openVideo(file: File, video: HTMLVideoElement, onFrame: () => void): Promise<Source> {
  const url = URL.createObjectURL(file);
  const close = () => {
    video.onloadeddata = video.onerror = null;
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.hidden = true;
    URL.revokeObjectURL(url);
  };
  const presented = new Presented(video, onFrame);
  video.src = url;
  video.controls = true;
  video.hidden = false;
  try {
    await new Promise((done, failed) => {
      video.onloadeddata = done;
      video.onerror = failed;
    });
    // Of a file whose pictures a browser can't decode, some play the sound.
    if (!video.videoWidth) throw new Error("no pictures");
    await video.play();
    await presented.first();
  } catch {
    presented.close();
    close();
    throw new EdgeError(`${file.name} can't be played by this browser.`, "Choose a WebM or MP4 file.");
  }
  return videoSource(file.name, video, presented, close);
}

function videoSource(name: string, video: HTMLVideoElement, presented: Presented, close: () => void): Source {
  const isLive = () => !video.paused && !video.seeking;
  return {
    name,
    isLive,
    frame: async () => {
      if (isLive()) await presented.next();
      const captured = isLive() ? presented.captured() : clock();
      return { bitmap: await createImageBitmap(video), captured };
    },
    close: () => {
      presented.close();
      close();
    },
  };
}

/**
 * When a video shows another frame, also one that it was wound to: it can be read then, which `seeked` does not promise.
 * A page that is not seen is shown none, so that it rests. A browser that doesn't say it is asked as often as it draws.
 * It listens from before a source is opened: what was shown until then is not said again.
 */
class Presented {
  private isNew = false;
  private capturedAt: number | null = null;
  private waiting: (() => void) | null = null;
  private request = 0;
  /** What ends the wait for a frame that may not come. */
  private readonly ends = ["pause", "seeking", "ended", "emptied"];
  /** What a browser says at least. */
  private readonly starts = ["seeked", "play"];

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly onFrame: () => void,
  ) {
    this.ask();
    for (const name of this.ends) video.addEventListener(name, this.release);
    if (!this.tells) for (const name of this.starts) video.addEventListener(name, onFrame);
  }

  private get tells(): boolean {
    return "requestVideoFrameCallback" in this.video;
  }

  private ask(): void {
    if (!this.tells) return;
    this.request = this.video.requestVideoFrameCallback((_, { captureTime, presentationTime }) => {
      this.capturedAt = performance.timeOrigin + (captureTime ?? presentationTime);
      this.isNew = true;
      this.release();
      this.onFrame();
      this.ask();
    });
  }

  /** Until there is something to read: a video plays before it shows any frame. Throws when there will be none. */
  async first(): Promise<void> {
    for (;;) {
      try {
        (await createImageBitmap(this.video)).close();
        return;
      } catch (error) {
        if (this.video.error || this.video.ended) throw error;
      }
      await new Promise((done) => requestAnimationFrame(done));
    }
  }

  /** Until there is a frame that was not waited for before. */
  async next(): Promise<void> {
    if (!this.tells) await new Promise((done) => requestAnimationFrame(done));
    else if (!this.isNew) await new Promise<void>((done) => (this.waiting = done));
    this.isNew = false;
  }

  /** When the frame of now was captured; where nobody says it, that is now. */
  captured(): number {
    return Math.min(this.capturedAt ?? Infinity, clock());
  }

  private readonly release = () => {
    this.waiting?.();
    this.waiting = null;
  };

  close(): void {
    if (this.tells) this.video.cancelVideoFrameCallback(this.request);
    for (const name of this.ends) this.video.removeEventListener(name, this.release);
    for (const name of this.starts) this.video.removeEventListener(name, this.onFrame);
    this.release();
  }
}
