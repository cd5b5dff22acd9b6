package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import kotlin.math.abs

/** Kotlin computes what Python computes. */
class ParityTest {
    @TestFactory
    fun `resize is Pillow's, bit by bit`(): List<DynamicTest> = Vectors.cases("resize").map { case ->
        val (height, width) = case.ints("source")
        val wanted = case.map("resized").picture()
        dynamicTest("${height}x$width -> ${wanted.height}x${wanted.width}") {
            val resized = resize(noise(height, width, case.int("seed")), wanted.height, wanted.width)
            assertEquals(0, largestDifference(resized.rgb, wanted.rgb))
        }
    }

    @Test
    fun `the colour table is Python's`() {
        assertArrayEquals(Vectors.heat().map("colormap").doubles(), COLORMAP, 1e-11)
    }

    @TestFactory
    fun `heat maps and overlays are Python's`(): List<DynamicTest> =
        Vectors.heat().item<List<Map<*, *>>>("cases").mapIndexed { i, case ->
            dynamicTest("map $i") {
                val raw = case.map("cam")
                val cam = CamMap(raw.shape[0], raw.shape[1], raw.floats()).forClass(case["positive"] as Boolean)
                val (height, width) = case.map("heat").shape
                val heat = heatMap(cam, height, width)
                assertArrayEquals(case.map("heat").floats(), heat, 1e-6f)
                val drawn = overlay(noise(height, width, case.int("seed")), heat)
                // One grey level: float32 here, and a heat value on the edge of two colours.
                assert(largestDifference(drawn.rgb, case.map("overlay").bytes()) <= 1)
            }
        }

    @TestFactory
    fun `decisions are Python's`(): List<DynamicTest> {
        val bundle = loadBundle(Vectors.bundle)
        return Vectors.cases("decision").map { case ->
            val (probability, threshold) = case.double("probability") to case.double("threshold")
            dynamicTest("$probability at $threshold") {
                assertEquals(case["label"], decide(bundle, probability, threshold))
            }
        }
    }

    @TestFactory
    fun `EXIF orientations are Pillow's`(): List<DynamicTest> = Vectors.cases("orientation").map { case ->
        dynamicTest("orientation ${case["orientation"]}") {
            val (height, width) = case.ints("source")
            val upright = noise(height, width, 1).upright(case.int("orientation"))
            val wanted = case.map("upright").picture()
            assertEquals(wanted.width to wanted.height, upright.width to upright.height)
            assertArrayEquals(wanted.rgb, upright.rgb)
        }
    }

    @Test
    fun `model input is 0-255 and resized`() {
        val input = toInput(noise(96, 131, 1), 48, 40)
        assertEquals(48 * 40 * 3, input.size)
        assert(input.all { it in 0f..255f && it == Math.rint(it.toDouble()).toFloat() })
        assert(input.max() > 100f)
    }
}

fun largestDifference(a: ByteArray, b: ByteArray): Int {
    assertEquals(a.size, b.size)
    return a.indices.maxOf { abs((a[it].toInt() and 0xFF) - (b[it].toInt() and 0xFF)) }
}
