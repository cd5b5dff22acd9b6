package org.sonoedge.core

import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min

/**
 * Stretch a picture with Pillow's antialiased bilinear filter; equal to `edge_runtime.imaging.image.resize` bit by bit.
 *
 * The triangle filter is as wide as two source pixels or, when shrinking, two target pixels. One pass across and one
 * down, each rounded to 8 bits, with coefficients in fixed point ([PRECISION_BITS] fractional bits).
 */
fun resize(image: RgbImage, height: Int, width: Int): RgbImage {
    // Pillow 13 goes down first where the height shrinks by far more pixels than the width; older versions never do.
    // The order changes a pixel by one level at most.
    if (height < image.height && image.height - height > 2 * (image.width - width)) {
        return across(down(image, height), width)
    }
    return down(across(image, width), height)
}

private fun across(image: RgbImage, width: Int): RgbImage =
    if (width == image.width) image else horizontal(image, Filter(image.width, width))

private fun down(image: RgbImage, height: Int): RgbImage =
    if (height == image.height) image else vertical(image, Filter(image.height, height))

/** [resize] as model input: float32 (1, [height], [width], 3) in C order, 0–255. */
fun toInput(image: RgbImage, height: Int, width: Int): FloatArray {
    val small = resize(image, height, width)
    return FloatArray(small.rgb.size) { (small.rgb[it].toInt() and 0xFF).toFloat() }
}

/** The same filter for a float32 map ([rows], [columns]): sums in double, each pass rounded to float. */
fun resizeMap(map: FloatArray, rows: Int, columns: Int, height: Int, width: Int): FloatArray {
    val across = if (width == columns) map else {
        val filter = Filter(columns, width)
        FloatArray(rows * width) { i ->
            val (y, x) = i / width to i % width
            filter.sum(x) { k -> map[y * columns + k] }
        }
    }
    if (height == rows) return across
    val filter = Filter(rows, height)
    return FloatArray(height * width) { i -> filter.sum(i / width) { k -> across[k * width + i % width] } }
}

/** Per target position: first source position, number of taps and weights (sum 1). */
private class Filter(sourceSize: Int, val targetSize: Int) {
    private val scale = sourceSize.toDouble() / targetSize
    private val support = max(scale, 1.0)
    val taps = ceil(support).toInt() * 2 + 1
    val first = IntArray(targetSize)
    val count = IntArray(targetSize)
    val weights = DoubleArray(targetSize * taps)
    val fixed: IntArray

    init {
        for (target in 0 until targetSize) {
            val centre = (target + 0.5) * scale
            first[target] = max(0, (centre - support + 0.5).toInt())
            count[target] = min(sourceSize, (centre + support + 0.5).toInt()) - first[target]
            var total = 0.0
            for (k in 0 until count[target]) {
                val distance = Math.abs((k + first[target] - centre + 0.5) * (1.0 / support))
                val weight = if (distance < 1.0) 1.0 - distance else 0.0
                weights[target * taps + k] = weight
                total += weight
            }
            for (k in 0 until count[target]) if (total != 0.0) weights[target * taps + k] /= total
        }
        fixed = IntArray(weights.size) { (0.5 + weights[it] * (1 shl PRECISION_BITS)).toInt() }
    }

    inline fun sum(target: Int, source: (Int) -> Float): Float {
        var sum = 0.0
        for (k in 0 until count[target]) sum += source(first[target] + k) * weights[target * taps + k]
        return sum.toFloat()
    }
}

private fun horizontal(image: RgbImage, filter: Filter): RgbImage {
    val source = image.rgb
    val width = filter.targetSize
    val out = ByteArray(3 * width * image.height)
    var at = 0
    for (y in 0 until image.height) {
        val row = 3 * y * image.width
        for (x in 0 until width) {
            var red = HALF
            var green = HALF
            var blue = HALF
            var from = row + 3 * filter.first[x]
            val start = x * filter.taps
            for (k in start until start + filter.count[x]) {
                val weight = filter.fixed[k]
                red += (source[from].toInt() and 0xFF) * weight
                green += (source[from + 1].toInt() and 0xFF) * weight
                blue += (source[from + 2].toInt() and 0xFF) * weight
                from += 3
            }
            out[at++] = toByte(red)
            out[at++] = toByte(green)
            out[at++] = toByte(blue)
        }
    }
    return RgbImage(width, image.height, out)
}

private fun vertical(image: RgbImage, filter: Filter): RgbImage {
    val source = image.rgb
    val stride = 3 * image.width
    val out = ByteArray(stride * filter.targetSize)
    val sums = IntArray(stride)
    for (y in 0 until filter.targetSize) {
        sums.fill(HALF)
        for (k in 0 until filter.count[y]) {
            val weight = filter.fixed[y * filter.taps + k]
            val row = (filter.first[y] + k) * stride
            for (i in 0 until stride) sums[i] += (source[row + i].toInt() and 0xFF) * weight
        }
        for (i in 0 until stride) out[y * stride + i] = toByte(sums[i])
    }
    return RgbImage(image.width, filter.targetSize, out)
}

private fun toByte(sum: Int): Byte = min(sum shr PRECISION_BITS, 255).toByte()

private const val PRECISION_BITS = 22
private const val HALF = 1 shl (PRECISION_BITS - 1)
