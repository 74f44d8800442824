import { byId } from './dom.js';
import type { GivenImages } from './protocol.js';

/** Milliseconds between two pictures. */
const EVERY = 300;
const MOST = 400;
/** Fewer give no batch. */
const LEAST = 32;
const SIDE = 160;

/** The dialog that takes pictures with the webcam and hands them over. */
export class Camera {
  private readonly dialog = byId<HTMLDialogElement>('camera');
  private readonly video = byId<HTMLVideoElement>('camera-video');
  private readonly note = byId('camera-note');
  private readonly take = byId<HTMLButtonElement>('camera-take');
  private readonly use = byId<HTMLButtonElement>('camera-use');
  private stream: MediaStream | null = null;
  private timer = 0;
  private pictures: ImageBitmap[] = [];

  constructor(private readonly done: (images: GivenImages) => void) {
    byId('camera-close').addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('close', () => this.end());
    this.take.addEventListener('click', () => (this.timer ? this.pause() : this.begin()));
    this.use.addEventListener('click', () => {
      const { pictures } = this;
      this.pictures = [];
      this.dialog.close();
      this.done({ name: `${pictures.length} pictures of the webcam`, pictures, labels: [], classes: [] });
    });
  }

  async open(): Promise<void> {
    this.pictures = [];
    this.show();
    this.dialog.showModal();
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
      // Closed while the browser asked for permission: the camera must not stay on unseen.
      if (!this.dialog.open) return this.end();
      this.video.srcObject = this.stream;
      await this.video.play();
    } catch (error) {
      const denied = error instanceof DOMException && error.name === 'NotAllowedError';
      this.note.textContent = denied
        ? 'The browser was not allowed to use the camera. Allow it in the address bar, then open this again.'
        : 'No camera was found. Connect one, or drop pictures on the page instead.';
      this.take.disabled = true;
    }
  }

  private begin(): void {
    this.timer = window.setInterval(() => void this.shoot(), EVERY);
    this.show();
  }

  private pause(): void {
    clearInterval(this.timer);
    this.timer = 0;
    this.show();
  }

  private async shoot(): Promise<void> {
    const { videoWidth, videoHeight } = this.video;
    const side = Math.min(videoWidth, videoHeight);
    if (side === 0) return;
    const [left, top] = [(videoWidth - side) / 2, (videoHeight - side) / 2];
    const size = { resizeWidth: SIDE, resizeHeight: SIDE, resizeQuality: 'medium' as const };
    this.pictures.push(await createImageBitmap(this.video, left, top, side, side, size));
    if (this.pictures.length >= MOST) this.pause();
    this.show();
  }

  private show(): void {
    const count = this.pictures.length;
    this.take.disabled = count >= MOST;
    this.take.textContent = this.timer ? 'Pause' : 'Take pictures';
    this.use.disabled = count < LEAST;
    this.note.textContent =
      count === 0
        ? 'Move things in front of the camera: three pictures a second are taken. They stay on this device.'
        : `${count} pictures${count < LEAST ? `, at least ${LEAST} are needed` : ''}.`;
  }

  private end(): void {
    this.pause();
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.stream = null;
  }
}
