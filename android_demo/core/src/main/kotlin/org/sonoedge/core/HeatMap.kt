package org.sonoedge.core

import kotlin.math.max

/**
 * A Grad-CAM map of the head: float32 ([rows], [columns]) in units of the logit, before the ReLU, for the positive
 * class. The negative class is its negation.
 */
class CamMap(val rows: Int, val columns: Int, val values: FloatArray) {
    /** What speaks for one class: [values] or their negation, cut at zero. */
    fun forClass(positive: Boolean): CamMap =
        CamMap(rows, columns, FloatArray(values.size) { max(if (positive) values[it] else -values[it], 0f) })
}

/**
 * A map stretched to the picture: float32 ([height], [width]), 0–1, the peak at 1 after the stretch; zero stays zero.
 */
fun heatMap(cam: CamMap, height: Int, width: Int): FloatArray {
    val peak = cam.values.max()
    if (!(peak > 0f)) return FloatArray(height * width)
    val unit = FloatArray(cam.values.size) { cam.values[it] / peak }
    val large = resizeMap(unit, cam.rows, cam.columns, height, width)
    val largest = large.max()
    return FloatArray(large.size) { large[it] / largest }
}

/**
 * The picture with the heat map over it; cold regions stay as they are.
 *
 * @param heat float32 (height, width) of the picture, 0–1.
 * @param opacity of the hottest point, 0–1.
 */
fun overlay(image: RgbImage, heat: FloatArray, opacity: Float = 0.5f): RgbImage {
    val out = ByteArray(image.rgb.size)
    for (i in heat.indices) {
        val colour = 3 * Math.rint((heat[i] * 255f).toDouble()).toInt()
        val weight = opacity * heat[i]
        for (c in 0..2) {
            val pixel = (image.rgb[3 * i + c].toInt() and 0xFF) * (1f - weight)
            out[3 * i + c] = (pixel + COLORMAP[colour + c] * weight + 0.5).toInt().toByte()
        }
    }
    return RgbImage(image.width, image.height, out)
}

/** Red, green and blue (0–255) for heat 0–255; the anchors of `edge_runtime.explain.colormap`, at equal distances. */
internal val COLORMAP: DoubleArray = run {
    val anchors = arrayOf(
        doubleArrayOf(10.0, 5.0, 40.0),
        doubleArrayOf(75.0, 12.0, 107.0),
        doubleArrayOf(140.0, 30.0, 100.0),
        doubleArrayOf(200.0, 55.0, 70.0),
        doubleArrayOf(238.0, 105.0, 37.0),
        doubleArrayOf(252.0, 165.0, 15.0),
        doubleArrayOf(246.0, 215.0, 70.0),
        doubleArrayOf(252.0, 255.0, 164.0),
    )
    val step = 1.0 / (anchors.size - 1)
    DoubleArray(3 * 256) { i ->
        val position = (i / 3) * (1.0 / 255)
        val left = minOf((position / step).toInt(), anchors.size - 2)
        val (from, to) = anchors[left][i % 3] to anchors[left + 1][i % 3]
        (to - from) / ((left + 1) * step - left * step) * (position - left * step) + from
    }
}
