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

    /** The system has not yet said whether it opened the camera; changes before it is asked and on [thread]. */
    private var opening = false
    private var closed = false

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
                reader.setOnImageAvailableListener({ deliver(it, degrees) }, handler)
            }
            opening = true
            manager.openCamera(id, Opening(), handler)
        } catch (error: CameraAccessException) {
            notOpened(error)
        } catch (error: RuntimeException) { // SecurityException, IllegalArgumentException
            notOpened(error)
        }
    }

    /** A camera that is just being opened is closed as soon as the system hands it over. */
    override fun close() {
        handler.post {
            closed = true
            device?.close()
            reader?.close()
            if (!opening) thread.quitSafely()
        }
    }

    private fun deliver(reader: ImageReader, degrees: Int) {
        if (closed) return
        val frame = try {
            reader.acquireLatestImage()?.use { toRgb(it).upright(ORIENTATION.getValue(degrees)) } ?: return
        } catch (error: ImageException) {
            return failed(error)
        } catch (error: RuntimeException) { // an image that the system has taken back
            return failed(error)
        } catch (_: OutOfMemoryError) {
            return onError(context.getString(R.string.error_memory))
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

    private fun failed(error: Exception) = failed(error.message ?: error.toString())

    private fun failed(why: String) {
        if (!closed) onError(context.getString(R.string.camera_failed, why))
    }

    private fun notOpened(error: Exception) {
        opening = false
        failed(error)
    }

    /** What is asked of an open camera; the system may take it away at any time. */
    private inline fun attempt(action: () -> Unit) = try {
        action()
    } catch (error: CameraAccessException) {
        failed(error)
    } catch (error: RuntimeException) { // IllegalStateException: it is closed already
        failed(error)
    }

    private inner class Opening : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            opening = false
            if (closed) return giveBack(camera)
            device = camera
            val surface = reader?.surface ?: return
            attempt {
                val outputs = listOf(OutputConfiguration(surface))
                camera.createCaptureSession(
                    SessionConfiguration(SessionConfiguration.SESSION_REGULAR, outputs, handler::post, Running(camera)),
                )
            }
        }

        override fun onDisconnected(camera: CameraDevice) {
            failed("another app took it")
            giveBack(camera)
        }

        override fun onError(camera: CameraDevice, error: Int) {
            failed("code $error")
            giveBack(camera)
        }

        private fun giveBack(camera: CameraDevice) {
            opening = false
            device = null
            camera.close()
            if (closed) thread.quitSafely()
        }
    }

    private inner class Running(private val camera: CameraDevice) : CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) {
            val surface = reader?.surface ?: return
            attempt {
                val request = camera.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW).apply { addTarget(surface) }
                session.setRepeatingRequest(request.build(), null, handler)
            }
        }

        override fun onConfigureFailed(session: CameraCaptureSession) = failed("no session")
    }

    private companion object {
        const val MAX_WIDTH = 1280

        /** Degrees clockwise as EXIF orientations. */
        val ORIENTATION = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)
    }
}
