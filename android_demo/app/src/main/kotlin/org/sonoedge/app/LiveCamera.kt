package org.sonoedge.app

import android.annotation.SuppressLint
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.params.OutputConfiguration
import android.hardware.camera2.params.SessionConfiguration
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import org.sonoedge.core.ImageException
import org.sonoedge.core.Plane
import org.sonoedge.core.RgbImage
import org.sonoedge.core.rgbFromYuv
import org.sonoedge.core.upright

/**
 * The camera that faces away from the screen: every frame as an upright RGB picture, the newest first.
 *
 * @param turned how far the screen is turned from its natural position: 0, 90, 180 or 270 degrees.
 * @param onFrame called on the camera's own thread.
 * @param onError called on the camera's own thread with words for the screen.
 */
class LiveCamera(
    private val context: Context,
    private val turned: Int,
    private val onFrame: (RgbImage) -> Unit,
    private val onError: (String) -> Unit,
) : AutoCloseable {
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private var reader: ImageReader? = null
    private var device: CameraDevice? = null

    /** Start; the permission is granted already. */
    @SuppressLint("MissingPermission")
    fun open() {
        try {
            val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager
            val id = manager.cameraIdList.firstOrNull {
                manager.getCameraCharacteristics(it)[CameraCharacteristics.LENS_FACING] == CameraCharacteristics.LENS_FACING_BACK
            } ?: return onError(context.getString(R.string.camera_none))
            val traits = manager.getCameraCharacteristics(id)
            val degrees = ((traits[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0) - turned + 360) % 360
            val sizes = traits[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]
                ?.getOutputSizes(ImageFormat.YUV_420_888).orEmpty()
            val size = sizes.filter { it.width <= MAX_WIDTH }.maxByOrNull { it.width * it.height } ?: sizes.firstOrNull()
                ?: return onError(context.getString(R.string.camera_none))
            reader = ImageReader.newInstance(size.width, size.height, ImageFormat.YUV_420_888, 2).also { reader ->
                reader.setOnImageAvailableListener({ deliver(it.acquireLatestImage(), degrees) }, handler)
            }
            manager.openCamera(id, Opening(), handler)
        } catch (error: CameraAccessException) {
            failed(error)
        } catch (error: SecurityException) {
            failed(error)
        } catch (error: IllegalArgumentException) {
            failed(error)
        }
    }

    override fun close() {
        handler.post {
            device?.close()
            reader?.close()
            thread.quitSafely()
        }
    }

    private fun deliver(image: Image?, degrees: Int) {
        val frame = try {
            image?.use { toRgb(it).upright(ORIENTATION.getValue(degrees)) } ?: return
        } catch (error: ImageException) {
            return failed(error)
        }
        onFrame(frame)
    }

    private fun toRgb(image: Image): RgbImage {
        val (y, u, v) = image.planes.map { plane ->
            val bytes = ByteArray(plane.buffer.remaining()).also { plane.buffer.get(it) }
            Plane(bytes, plane.rowStride, plane.pixelStride)
        }
        return rgbFromYuv(image.width, image.height, y, u, v)
    }

    private fun failed(error: Exception) = onError(context.getString(R.string.camera_failed, error.message))

    private inner class Opening : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            device = camera
            val surface = reader?.surface ?: return
            try {
                val outputs = listOf(OutputConfiguration(surface))
                camera.createCaptureSession(
                    SessionConfiguration(SessionConfiguration.SESSION_REGULAR, outputs, handler::post, Running(camera)),
                )
            } catch (error: CameraAccessException) {
                failed(error)
            }
        }

        override fun onDisconnected(camera: CameraDevice) = camera.close()

        override fun onError(camera: CameraDevice, error: Int) {
            camera.close()
            onError(context.getString(R.string.camera_failed, "code $error"))
        }
    }

    private inner class Running(private val camera: CameraDevice) : CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) {
            val surface = reader?.surface ?: return
            try {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply { addTarget(surface) }
                session.setRepeatingRequest(request.build(), null, handler)
            } catch (error: CameraAccessException) {
                failed(error)
            }
        }

        override fun onConfigureFailed(session: CameraCaptureSession) =
            onError(context.getString(R.string.camera_failed, "no session"))
    }

    private companion object {
        const val MAX_WIDTH = 1280

        /** Degrees clockwise as EXIF orientations. */
        val ORIENTATION = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)
    }
}
