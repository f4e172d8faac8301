/** The camera of the device, or one that a microscope offers as a webcam. */

import { FieldError } from "./core/errors.js";

const SENTENCES: Readonly<Record<string, string>> = {
  NotAllowedError: "the browser was not allowed to use the camera: allow it for this page",
  NotFoundError: "there is no camera: connect one, or give files",
  NotReadableError: "the camera is used by another program: close it there",
};

/** Show the camera in `video`; resolves when there is a picture. Raises FieldError `unreadable`. */
export async function startCamera(video: HTMLVideoElement): Promise<void> {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { facingMode: "environment", width: { ideal: 1920 }, height: { ideal: 1080 } },
    });
    await video.play();
  } catch (error) {
    stopCamera(video);
    const name = error instanceof Error ? error.name : "";
    throw new FieldError(
      "unreadable",
      `camera: ${SENTENCES[name] ?? `it cannot be opened (${name || String(error)})`}`,
    );
  }
}

export function stopCamera(video: HTMLVideoElement): void {
  if (video.srcObject instanceof MediaStream) {
    for (const track of video.srcObject.getTracks()) track.stop();
  }
  video.srcObject = null;
}
