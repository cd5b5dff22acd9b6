package org.sonoedge.app

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.media.ExifInterface
import android.net.Uri
import org.sonoedge.core.ImageException
import org.sonoedge.core.RgbImage
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.IOException
import java.nio.ByteBuffer

/**
 * A picture as the model sees it, upright.
 *
 * @property orientation EXIF orientation of the file, which the decoder has turned upright; 1: it was so already.
 * @property shrunkFrom width and height in the file where it was too large for this device's memory.
 */
data class Picture(val image: RgbImage, val orientation: Int = 1, val shrunkFrom: Pair<Int, Int>? = null)

/** Pictures up to this size are resized from all of their pixels, as `sonoedge predict` does. */
const val MAX_WHOLE_PIXELS = 16_000_000L
private const val MAX_FILE_BYTES = 128 shl 20

/**
 * Read and decode a picture that another app offers.
 *
 * @throws ImageException it cannot be read, is no picture, or is larger than [org.sonoedge.core.MAX_PIXELS].
 */
fun readPicture(resolver: ContentResolver, uri: Uri): Picture = try {
    val stream = resolver.openInputStream(uri) ?: throw ImageException("The picture cannot be read.")
    decodePicture(stream.use { it.readAtMost(MAX_FILE_BYTES) })
} catch (error: IOException) {
    throw ImageException("The picture cannot be read: ${error.message}.", error)
} catch (error: SecurityException) {
    throw ImageException("The picture cannot be read: this app may not open it.", error)
}

/** Decode a JPEG, PNG, WebP, … as far as Android knows it: alpha over black, upright. */
fun decodePicture(data: ByteArray): Picture {
    if (data.isEmpty()) throw ImageException("The picture is empty (0 bytes).")
    if (isDeepPng(data)) {
        throw ImageException("The picture has 16 bits per colour; Android would cut them. Save it with 8 bits first.")
    }
    var shrunkFrom: Pair<Int, Int>? = null
    val bitmap = try {
        // Unlike BitmapFactory it refuses a file that ends too early.
        ImageDecoder.decodeBitmap(ImageDecoder.createSource(ByteBuffer.wrap(data))) { decoder, info, _ ->
            val (width, height) = info.size.width to info.size.height
            RgbImage.checkSize(width, height)
            val sample = sampleSize(width, height)
            if (sample > 1) shrunkFrom = width to height
            decoder.setTargetSampleSize(sample)
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
            decoder.isUnpremultipliedRequired = true
        }
    } catch (error: ImageDecoder.DecodeException) {
        throw ImageException(
            if (error.error == ImageDecoder.DecodeException.SOURCE_INCOMPLETE) "The picture is damaged: the file ends too early."
            else "This is not a picture that Android can decode (PNG, JPEG, BMP, WebP, …).",
            error,
        )
    }
    try {
        return Picture(toRgb(bitmap), orientation(data), shrunkFrom)
    } finally {
        bitmap.recycle()
    }
}

/** A bitmap to draw. */
fun RgbImage.toBitmap(): Bitmap = Bitmap.createBitmap(toArgb(), width, height, Bitmap.Config.ARGB_8888)

private fun toRgb(bitmap: Bitmap): RgbImage {
    val (width, height) = bitmap.width to bitmap.height
    val rgb = ByteArray(3 * width * height)
    // Strips: a second copy of a large picture as whole numbers would not fit.
    val strip = IntArray(width * STRIP)
    for (y in 0 until height step STRIP) {
        val rows = minOf(STRIP, height - y)
        bitmap.getPixels(strip, 0, width, 0, y, width, rows)
        val part = RgbImage.fromArgb(width, rows, strip)
        part.rgb.copyInto(rgb, 3 * y * width)
    }
    return RgbImage(width, height, rgb)
}

private fun sampleSize(width: Int, height: Int): Int {
    var size = 1
    while (width.toLong() / size * (height / size) > MAX_WHOLE_PIXELS) size *= 2
    return size
}

private fun orientation(data: ByteArray): Int = try {
    val exif = ExifInterface(ByteArrayInputStream(data))
    exif.getAttributeInt(ExifInterface.TAG_ORIENTATION, 1).takeIf { it in 1..8 } ?: 1
} catch (_: IOException) {
    1 // no EXIF in this kind of file
}

private fun isDeepPng(data: ByteArray): Boolean =
    data.size > 24 && data[0] == 0x89.toByte() && data[1] == 'P'.code.toByte() && data[24].toInt() == 16

private fun java.io.InputStream.readAtMost(limit: Int): ByteArray {
    val out = ByteArrayOutputStream()
    val block = ByteArray(1 shl 16)
    while (true) {
        val count = read(block)
        if (count < 0) return out.toByteArray()
        if (out.size() + count > limit) throw ImageException("The picture file is larger than ${limit shr 20} MB.")
        out.write(block, 0, count)
    }
}

private const val STRIP = 64
