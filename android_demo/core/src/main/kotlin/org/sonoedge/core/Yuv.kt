package org.sonoedge.core

/** One plane of a camera frame: unsigned bytes, [rowStride] and [pixelStride] bytes apart. */
class Plane(val bytes: ByteArray, val rowStride: Int, val pixelStride: Int) {
    fun at(x: Int, y: Int): Int = bytes[y * rowStride + x * pixelStride].toInt() and 0xFF
}

/**
 * A camera frame (YUV 4:2:0, full range, the matrix of JFIF and of Android's cameras) as RGB.
 *
 * @param u one value for 2x2 pixels, as [v].
 * @throws ImageException the planes are too small for the size.
 */
fun rgbFromYuv(width: Int, height: Int, y: Plane, u: Plane, v: Plane): RgbImage {
    RgbImage.checkSize(width, height)
    for ((plane, w, h) in listOf(Triple(y, width, height), Triple(u, (width + 1) / 2, (height + 1) / 2), Triple(v, (width + 1) / 2, (height + 1) / 2))) {
        if (plane.bytes.size <= (h - 1).toLong() * plane.rowStride + (w - 1) * plane.pixelStride) {
            throw ImageException("The camera's frame is smaller than ${width}x$height pixels.")
        }
    }
    val rgb = ByteArray(3 * width * height)
    var at = 0
    for (row in 0 until height) {
        for (column in 0 until width) {
            // 16 fractional bits.
            val luma = (y.at(column, row) shl 16) + (1 shl 15)
            val blue = u.at(column shr 1, row shr 1) - 128
            val red = v.at(column shr 1, row shr 1) - 128
            rgb[at++] = clamp(luma + 91881 * red)
            rgb[at++] = clamp(luma - 22554 * blue - 46802 * red)
            rgb[at++] = clamp(luma + 116130 * blue)
        }
    }
    return RgbImage(width, height, rgb)
}

private fun clamp(fixed: Int): Byte = (fixed shr 16).coerceIn(0, 255).toByte()
