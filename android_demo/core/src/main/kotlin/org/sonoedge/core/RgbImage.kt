package org.sonoedge.core

/** The largest picture that is accepted, as in `edge_runtime.imaging.image`. */
const val MAX_PIXELS = 50_000_000L

/**
 * A decoded picture.
 *
 * @property rgb uint8 ([height], [width], 3) in C order, red first, 0–255.
 */
class RgbImage(val width: Int, val height: Int, val rgb: ByteArray) {
    init {
        if (width < 1 || height < 1 || rgb.size.toLong() != 3L * width * height) {
            throw ImageException(
                "Input must be an RGB image of shape (height, width, 3). " +
                    "Received: ${rgb.size} bytes for ${width}x$height.",
            )
        }
    }

    /** Pixels as Android and AWT draw them: 0xAARRGGBB, opaque, row by row. */
    fun toArgb(): IntArray = IntArray(width * height) { i ->
        OPAQUE or (byte(3 * i) shl 16) or (byte(3 * i + 1) shl 8) or byte(3 * i + 2)
    }

    private fun byte(index: Int): Int = rgb[index].toInt() and 0xFF

    companion object {
        private const val OPAQUE = 0xFF shl 24

        /**
         * A picture from 0xAARRGGBB pixels (not premultiplied), alpha composited over black: the background of an
         * ultrasound frame. Rounds as Pillow's `alpha_composite` over an opaque black image does.
         */
        fun fromArgb(width: Int, height: Int, argb: IntArray): RgbImage {
            val rgb = ByteArray(3 * width * height)
            for (i in 0 until width * height) {
                val pixel = argb[i]
                val alpha = pixel ushr 24
                rgb[3 * i] = overBlack(pixel shr 16 and 0xFF, alpha)
                rgb[3 * i + 1] = overBlack(pixel shr 8 and 0xFF, alpha)
                rgb[3 * i + 2] = overBlack(pixel and 0xFF, alpha)
            }
            return RgbImage(width, height, rgb)
        }

        private fun overBlack(value: Int, alpha: Int): Byte {
            if (alpha == 255) return value.toByte()
            val scaled = value * alpha + 128
            return ((scaled shr 8) + scaled shr 8).toByte()
        }

        /** Throws [ImageException] unless a picture of that size is accepted. */
        fun checkSize(width: Int, height: Int) {
            if (width < 1 || height < 1) throw ImageException("The picture cannot be decoded.")
            if (width.toLong() * height > MAX_PIXELS) {
                throw ImageException("The picture has ${width}x$height pixels. At most 50 million pixels are accepted.")
            }
        }
    }
}

/**
 * Turn and mirror a picture as its EXIF orientation says (1–8; anything else leaves it as it is).
 */
fun RgbImage.upright(orientation: Int): RgbImage {
    if (orientation !in 2..8) return this
    val swap = orientation >= 5
    val (outWidth, outHeight) = if (swap) height to width else width to height
    val out = ByteArray(rgb.size)
    for (y in 0 until outHeight) {
        for (x in 0 until outWidth) {
            val (sx, sy) = when (orientation) {
                2 -> width - 1 - x to y
                3 -> width - 1 - x to height - 1 - y
                4 -> x to height - 1 - y
                5 -> y to x
                6 -> y to height - 1 - x
                7 -> width - 1 - y to height - 1 - x
                else -> width - 1 - y to x
            }
            System.arraycopy(rgb, 3 * (sy * width + sx), out, 3 * (y * outWidth + x), 3)
        }
    }
    return RgbImage(outWidth, outHeight, out)
}
