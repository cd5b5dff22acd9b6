package org.sonoedge.app

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.util.AttributeSet
import android.view.View

/** A probability on a scale from 0 to 1: the band around it, the decision threshold as a line, the value as a dot. */
class BandView(context: Context, attributes: AttributeSet? = null) : View(context, attributes) {
    private var probability = 0f
    private var from = 0f
    private var to = 0f
    private var threshold = 0f
    private val density = resources.displayMetrics.density
    private val scale = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = 0xFFE3E0EA.toInt() }
    private val band = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = 0xFFE9A08F.toInt() }
    private val value = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = 0xFF8C1E64.toInt() }
    private val line = Paint().apply { color = 0xFF0A0528.toInt(); strokeWidth = 2 * density }

    fun show(probability: Double, band: ClosedFloatingPointRange<Double>, threshold: Double) {
        this.probability = probability.toFloat()
        from = band.start.toFloat()
        to = band.endInclusive.toFloat()
        this.threshold = threshold.toFloat()
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val margin = 10 * density
        val middle = height / 2f
        val half = 5 * density
        fun x(value: Float) = margin + value * (width - 2 * margin)
        canvas.drawRoundRect(x(0f), middle - half, x(1f), middle + half, half, half, scale)
        canvas.drawRoundRect(x(from), middle - half, maxOf(x(to), x(from) + 2 * density), middle + half, half, half, band)
        canvas.drawLine(x(threshold), middle - 2.4f * half, x(threshold), middle + 2.4f * half, line)
        canvas.drawCircle(x(probability), middle, 1.4f * half, value)
    }
}
