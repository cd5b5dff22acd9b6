package org.sonoedge.app

import android.Manifest
import android.content.Context
import android.graphics.ImageFormat
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.os.Handler
import android.os.HandlerThread
import android.util.Size
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowCameraCharacteristics
import org.robolectric.shadows.StreamConfigurationMapBuilder
import org.robolectric.util.ReflectionHelpers
import java.util.concurrent.CountDownLatch

/** Permission, frames, and that the camera is given back. */
@RunWith(RobolectricTestRunner::class)
class CameraTest {
    private val context = RuntimeEnvironment.getApplication()
    private val manager = context.getSystemService(Context.CAMERA_SERVICE) as CameraManager

    private fun refuse(app: RunningApp) = app.activity.onRequestPermissionsResult(
        MainActivity.USE_CAMERA, arrayOf(Manifest.permission.CAMERA), intArrayOf(-1),
    )

    @Test
    fun `the camera asks first, and a refusal is told`() {
        installBundle()
        RunningApp().use { app ->
            assertNull(shadowOf(app.activity).lastRequestedPermission)
            app.click(R.id.tab_camera)
            assertEquals(listOf(Manifest.permission.CAMERA), shadowOf(app.activity).lastRequestedPermission.requestedPermissions.toList())
            refuse(app)
            assertTrue(app.words(R.id.error)!!.contains("may not be used"))
        }
    }

    @Test
    fun `a refusal is not followed by the next question`() {
        installBundle()
        RunningApp().use { app ->
            app.click(R.id.tab_camera)
            val asked = shadowOf(app.activity).lastRequestedPermission
            // The dialog goes, and the Activity is resumed.
            refuse(app)
            app.interrupt()
            assertSame(asked, shadowOf(app.activity).lastRequestedPermission)
            assertTrue(app.words(R.id.error)!!.contains("may not be used"))
            // Who opens the screen again is asked again.
            app.click(R.id.tab_picture)
            app.click(R.id.tab_camera)
            assertNotSame(asked, shadowOf(app.activity).lastRequestedPermission)
            // Allowed in the system settings: it starts, and finds that this device has no camera.
            shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(Manifest.permission.CAMERA)
            app.interrupt()
            assertTrue(app.words(R.id.error)!!.contains("no camera"))
        }
    }

    @Test
    fun `a device without a camera is told`() {
        installBundle()
        shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(Manifest.permission.CAMERA)
        RunningApp().use { app ->
            app.click(R.id.tab_camera)
            assertTrue(app.words(R.id.error)!!.contains("no camera"))
        }
    }

    @Test
    fun `frames are classified live, and one is kept as the picture`() {
        installBundle()
        RunningApp().use { app ->
            app.activity.model.update { copy(screen = Screen.CAMERA) }
            app.activity.model.frame(phantom(320, 240))
            app.await { state.live != null }
            assertNotNull(app.words(R.id.live_result))
            assertNotNull(app.words(R.id.live_verdict))
            app.photograph("camera")
            app.click(R.id.freeze)
            assertEquals(Screen.PICTURE, app.state.screen)
            assertEquals(320, app.state.picture!!.image.width)
            assertNotNull(app.state.prediction)
        }
    }

    @Test
    fun `a refused frame shows no probability`() {
        installBundle(gated = true)
        RunningApp().use { app ->
            app.activity.model.update { copy(screen = Screen.CAMERA) }
            val case = Vectors.verdicts("bundle").first { it["artifact"] == "tflite-int8" && it["verdict"] == "refused" }
            app.activity.model.frame(drawn(case["picture"] as List<*>))
            app.await { state.live != null }
            assertEquals(case["text"], app.words(R.id.live_verdict))
            for (id in listOf(R.id.live_result, R.id.live_latency)) assertNull(app.words(id))
        }
    }

    @Test
    fun `a frame that fails in an unexpected way is told, and the next one is classified`() {
        installBundle()
        RunningApp().use { app ->
            val (model, sound) = app.activity.model to app.state.bundle!!
            val benign = drawn(listOf("grey", 130L, 140L, 2L))
            // No label but the positive one: a NoSuchElementException.
            model.update { copy(screen = Screen.CAMERA, bundle = sound.copy(labels = listOf("malignant", "malignant"))) }
            model.frame(benign)
            app.await { state.error != null }
            assertTrue(app.words(R.id.error)!!.contains("did not expect"))
            model.update { copy(bundle = sound) }
            app.await {
                model.frame(benign)
                state.live != null
            }
            assertNull(app.words(R.id.error))
        }
    }

    @Test
    fun `a frame after the end is dropped`() {
        installBundle()
        RunningApp().use { app ->
            app.activity.model.close()
            app.activity.model.frame(noise(48, 48, 1))
            assertNull(app.state.live)
        }
    }

    @Test
    fun `an open camera is closed, and its thread ends`() {
        val camera = aCamera()
        val thread = cameraThread()
        camera.open()
        camera.close()
        assertGivenBack(thread)
    }

    @Test
    fun `a camera that the system hands over after closing is given back, and its thread ends`() {
        val camera = aCamera()
        val thread = cameraThread()
        // Held, so that what is asked below is answered in this order: closed, then opened.
        val held = CountDownLatch(1)
        Handler(thread.looper).post { held.await() }
        camera.close()
        camera.open()
        held.countDown()
        assertGivenBack(thread)
    }

    private fun aCamera(): LiveCamera {
        val traits = ShadowCameraCharacteristics.newCameraCharacteristics()
        shadowOf(traits).set(CameraCharacteristics.LENS_FACING, CameraCharacteristics.LENS_FACING_BACK)
        val sizes = StreamConfigurationMapBuilder.newBuilder().addOutputSize(ImageFormat.YUV_420_888, Size(640, 480)).build()
        shadowOf(traits).set(CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP, sizes)
        shadowOf(manager).addCamera("0", traits)
        return LiveCamera(context, 0, {}, { throw AssertionError(it) })
    }

    private fun cameraThread(): HandlerThread =
        Thread.getAllStackTraces().keys.filterIsInstance<HandlerThread>().filter { it.name == "camera" }.maxByOrNull { it.id }!!

    private fun assertGivenBack(thread: HandlerThread) {
        thread.join(20_000)
        assertFalse(thread.isAlive)
        val device = ReflectionHelpers.getField<Set<CameraDevice>>(shadowOf(manager), "createdCameras").single()
        // What a closed device answers.
        assertThrows(IllegalStateException::class.java) { device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW) }
    }
}
