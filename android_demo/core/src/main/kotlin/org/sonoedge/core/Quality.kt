package org.sonoedge.core

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

/**
 * Measures of one picture; `edge_runtime/imaging/quality.py` is their specification.
 *
 * @property brightness mean grey level, 0–255.
 * @property contrast standard deviation of the grey level.
 * @property speckle median relative difference of a pixel from the mean of its neighbours, where there is echo.
 * @property colour share of clearly coloured pixels.
 * @property overlay share of pure white pixels with dark neighbours: text, callipers, rulers.
 */
data class Quality(
    val brightness: Double,
    val contrast: Double,
    val speckle: Double,
    val colour: Double,
    val overlay: Double,
)

/** Measure a picture: levels on a coarse grid of pixels, grain and edges in the middle at full resolution. */
fun quality(image: RgbImage): Quality {
    val step = max(1, min(image.width, image.height) / GRID)
    var count = 0
    var sum = 0.0
    var squares = 0.0
    var coloured = 0
    for (y in 0 until image.height step step) for (x in 0 until image.width step step) {
        val (red, green, blue) = Triple(image.at(x, y, 0), image.at(x, y, 1), image.at(x, y, 2))
        val level = (red + green + blue) / 3.0
        sum += level
        squares += level * level
        if (max(max(red, green), blue) - min(min(red, green), blue) > SPREAD) coloured++
        count++
    }
    val brightness = sum / count
    val (speckle, overlay) = grain(image)
    return Quality(
        brightness, sqrt(max(squares / count - brightness * brightness, 0.0)), speckle, coloured.toDouble() / count, overlay,
    )
}

/** Codes of what to look at before any answer is trusted; none for an ordinary B-mode picture. */
fun hints(image: RgbImage, quality: Quality): List<String> = listOf(
    "small" to (min(image.width, image.height) < SMALL),
    "dark" to (quality.brightness < DARK),
    "bright" to (quality.brightness > BRIGHT),
    "flat" to (quality.contrast < FLAT),
    "colour" to (quality.colour > COLOURED),
    "speckle" to (quality.speckle < SPECKLE),
    "overlay" to (quality.overlay > OVERLAY),
).filter { it.second }.map { it.first }

/** Speckle and overlay, of the green channel: the three are equal in B-mode. */
private fun grain(image: RgbImage): Pair<Double, Double> {
    val (top, left) = max(0, (image.height - MIDDLE) / 2) to max(0, (image.width - MIDDLE) / 2)
    val (rows, columns) = min(MIDDLE, image.height) to min(MIDDLE, image.width)
    if (min(rows, columns) < 3) return 0.0 to 0.0
    val relative = DoubleArray((rows - 2) * (columns - 2) / 4 + 1)
    var echoes = 0
    var written = 0
    for (y in top + 1 until top + rows - 1) for (x in left + 1 until left + columns - 1) {
        val (up, down) = image.at(x, y - 1, 1) to image.at(x, y + 1, 1)
        val (before, after) = image.at(x - 1, y, 1) to image.at(x + 1, y, 1)
        val own = image.at(x, y, 1)
        val around = (up + down + before + after) / 4.0
        if (around > 20 && around < 235 && echoes++ % 4 == 0) relative[(echoes - 1) / 4] = abs(own - around) / around
        if (own > 240 && min(min(up, down), min(before, after)) < own - 90) written++
    }
    return median(relative.copyOf((echoes + 3) / 4)) to written.toDouble() / ((rows - 2) * (columns - 2))
}

private fun median(values: DoubleArray): Double {
    values.sort()
    return if (values.isEmpty()) 0.0 else (values[(values.size - 1) / 2] + values[values.size / 2]) / 2
}

private fun RgbImage.at(x: Int, y: Int, channel: Int): Int = rgb[3 * (y * width + x) + channel].toInt() and 0xFF

private const val GRID = 96
private const val MIDDLE = 192
private const val SPREAD = 48
private const val SMALL = 120
private const val DARK = 24.0
private const val BRIGHT = 170.0
private const val FLAT = 12.0
private const val SPECKLE = 0.018
private const val COLOURED = 0.03
private const val OVERLAY = 0.002
