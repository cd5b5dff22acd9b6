// Camera, capture card or recorded clip: a <video> whose frames go to an engine, never more than it can take.

export class FrameSource {
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    this.skipped = 0;
  }

  async startCamera(deviceId) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give this page a camera only over HTTPS or on the station itself (localhost).");
    }
    const wish = { width: { ideal: 1280 }, height: { ideal: 960 } };
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: deviceId ? { ...wish, deviceId: { exact: deviceId } } : { ...wish, facingMode: "environment" },
    });
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  async startClip(file) {
    this.url = URL.createObjectURL(file);
    this.video.loop = true;
    this.video.src = this.url;
    await this.video.play();
  }

  async devices() {
    const all = await navigator.mediaDevices.enumerateDevices();
    return all.filter((device) => device.kind === "videoinput");
  }

  /** The frame on screen as a file; null before the first one. */
  async grab(type = "image/jpeg") {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return null;
    this.canvas.width = width;
    this.canvas.height = height;
    this.canvas.getContext("2d").drawImage(this.video, 0, 0);
    return new Promise((resolve) => this.canvas.toBlob(resolve, type, 0.92));
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.video.pause();
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.url) URL.revokeObjectURL(this.url);
    this.stream = this.url = undefined;
  }
}
