package org.sonoedge.app

import android.graphics.Bitmap
import android.net.Uri
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.sonoedge.core.ImageException
import org.sonoedge.core.RgbImage
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.io.InputStream
import kotlin.math.abs

/** Android's decoders (Skia, as on the phone) against Pillow. */
@RunWith(RobolectricTestRunner::class)
class PicturesTest {
    @Test
    fun `pictures decode as in Python, broken ones are refused in words`() {
        for (case in Vectors.cases("pictures")) {
            val name = case["file"] as String
            val data = Vectors.picture(name)
            if (case["rgb"] == null) {
                val error = assertThrows(name, ImageException::class.java) { decodePicture(data) }
                assertTrue(error.message, error.message.first().isUpperCase() && error.message.endsWith("."))
                continue
            }
            val wanted = case.map("rgb").let { RgbImage(it.ints("shape")[1], it.ints("shape")[0], it.bytes()) }
            val picture = decodePicture(data)
            assertEquals(name, wanted.width to wanted.height, picture.image.width to picture.image.height)
            // PNG exactly; two JPEG decoders may round differently.
            val allowed = if (name.endsWith(".jpg")) 3 else 0
            val difference = wanted.rgb.indices.maxOf { abs((wanted.rgb[it].toInt() and 0xFF) - (picture.image.rgb[it].toInt() and 0xFF)) }
            assertTrue("$name: $difference levels", difference <= allowed)
        }
    }

    @Test
    fun `EXIF orientation turns a picture upright, and is told`() {
        val picture = decodePicture(Vectors.picture("exif6.jpg"))
        assertEquals(6, picture.orientation)
        assertEquals(24 to 32, picture.image.width to picture.image.height)
        assertEquals(1, decodePicture(Vectors.picture("photo.jpg")).orientation)
    }

    @Test
    fun `a picture too large for a phone's memory is shrunk, and that is told`() {
        val bitmap = Bitmap.createBitmap(5000, 4000, Bitmap.Config.ARGB_8888).apply { eraseColor(0xFF204060.toInt()) }
        val data = ByteArrayOutputStream().also { bitmap.compress(Bitmap.CompressFormat.JPEG, 80, it) }.toByteArray()
        val picture = decodePicture(data)
        assertEquals(5000 to 4000, picture.shrunkFrom)
        assertEquals(2500 to 2000, picture.image.width to picture.image.height)
        assertNull(decodePicture(Vectors.picture("rgb.png")).shrunkFrom)
    }

    @Test
    fun `sixteen bits per colour are refused rather than cut`() {
        val data = Vectors.picture("rgb.png").clone().also { it[24] = 16 }
        assertTrue("16 bits" in assertThrows(ImageException::class.java) { decodePicture(data) }.message)
    }

    @Test
    fun `a document that cannot be read is an error in words`() {
        val resolver = RuntimeEnvironment.getApplication().contentResolver
        val uri = Uri.parse("content://other.app/gone")
        shadowOf(resolver).registerInputStreamSupplier(uri) {
            object : InputStream() {
                override fun read(): Int = throw IOException("the other app closed it")
            }
        }
        val error = assertThrows(ImageException::class.java) { readPicture(resolver, uri) }
        assertTrue(error.message, error.message.startsWith("The picture cannot be read"))
    }
}
