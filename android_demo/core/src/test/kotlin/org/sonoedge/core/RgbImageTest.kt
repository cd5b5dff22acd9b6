package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import kotlin.math.roundToInt

class RgbImageTest {
    @Test
    fun `alpha is laid over black`() {
        val argb = intArrayOf(0x00FFFFFF, 0x80FF8040.toInt(), 0xFF010203.toInt())
        assertArrayEquals(byteArrayOf(0, 0, 0, 128.toByte(), 64, 32, 1, 2, 3), RgbImage.fromArgb(3, 1, argb).rgb)
        for (alpha in 0..255) for (value in 0..255) {
            val pixel = RgbImage.fromArgb(1, 1, intArrayOf((alpha shl 24) or value)).rgb[2].toInt() and 0xFF
            assertEquals((value * alpha / 255.0).roundToInt(), pixel)
        }
    }

    @Test
    fun `pixels go to Android and back`() {
        val image = noise(7, 9, 3)
        assertArrayEquals(image.rgb, RgbImage.fromArgb(9, 7, image.toArgb()).rgb)
    }

    @Test
    fun `huge and impossible sizes are refused in words`() {
        assertTrue("50 million" in assertThrows<ImageException> { RgbImage.checkSize(20_000, 20_000) }.message)
        assertTrue("50 million" in assertThrows<ImageException> { RgbImage.checkSize(Int.MAX_VALUE, Int.MAX_VALUE) }.message)
        assertThrows<ImageException> { RgbImage.checkSize(0, 5) }
        assertThrows<ImageException> { RgbImage(2, 2, ByteArray(11)) }
    }

    @Test
    fun `camera frames become RGB`() {
        // Grey stays grey; the three primaries of JFIF (ITU-T T.871) come out within a level.
        val colours = mapOf(
            Triple(128, 128, 128) to Triple(128, 128, 128), Triple(76, 85, 255) to Triple(254, 0, 0),
            Triple(150, 44, 21) to Triple(0, 255, 1), Triple(29, 255, 107) to Triple(0, 0, 254),
        )
        for ((yuv, rgb) in colours) {
            // Interleaved chroma with padded rows, as most phones deliver it; an odd size.
            val y = Plane(ByteArray(8 * 3) { yuv.first.toByte() }, 8, 1)
            val u = Plane(ByteArray(12 * 2) { yuv.second.toByte() }, 12, 2)
            val v = Plane(ByteArray(12 * 2) { yuv.third.toByte() }, 12, 2)
            val image = rgbFromYuv(5, 3, y, u, v)
            assertEquals(45, image.rgb.size)
            val pixel = image.rgb.takeLast(3).map { it.toInt() and 0xFF }
            assertArrayEquals(intArrayOf(rgb.first, rgb.second, rgb.third), pixel.toIntArray(), "$yuv")
        }
    }

    @Test
    fun `a frame smaller than it says is refused`() {
        val small = Plane(ByteArray(4), 2, 1)
        assertThrows<ImageException> { rgbFromYuv(4, 4, small, small, small) }
    }
}
