package org.sonoedge.core

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipFile

/**
 * An array in C order: [bytes] for `uint8`, [floats] for `float32` and `float16`, [texts] for strings; the others are
 * empty.
 */
class NpyArray(
    val shape: List<Int>,
    val bytes: ByteArray = ByteArray(0),
    val floats: FloatArray = FloatArray(0),
    val texts: List<String> = emptyList(),
) {
    /** Row [index] along the first axis of an array of floats. */
    fun row(index: Int): FloatArray {
        val size = shape.drop(1).fold(1, Int::times)
        return floats.copyOfRange(index * size, (index + 1) * size)
    }
}

/**
 * All arrays of a NumPy `.npz` archive by name: format versions 1–3, C order, little-endian `uint8`, `float16`,
 * `float32` and strings.
 *
 * @throws BundleException the archive or one of its arrays cannot be read.
 */
fun readNpz(file: File): Map<String, NpyArray> = try {
    ZipFile(file).use { zip ->
        zip.entries().asSequence().associate { entry ->
            val data = zip.getInputStream(entry).use { it.readBytes() }
            entry.name.removeSuffix(".npy") to readNpy(data, entry.name, file.name)
        }
    }
} catch (error: IOException) {
    throw BundleException("${file.name} cannot be read: ${error.message}.", error)
}

/** One `.npy` file; see [readNpz]. */
internal fun readNpy(data: ByteArray, name: String, archive: String = GOLDEN): NpyArray {
    fun fail(what: String): Nothing = throw BundleException("$archive cannot be read: $name $what.")
    if (data.size < 12 || !MAGIC.indices.all { data[it] == MAGIC[it] }) fail("is not a NumPy array")
    val buffer = ByteBuffer.wrap(data).order(ByteOrder.LITTLE_ENDIAN)
    val (start, length) = when (data[6].toInt()) {
        1 -> 10 to (buffer.getShort(8).toInt() and 0xFFFF)
        2, 3 -> 12 to buffer.getInt(8)
        else -> fail("has an unknown format version")
    }
    if (length < 0 || length > data.size - start) fail("is truncated")
    val header = HEADER.find(String(data, start, length, Charsets.ISO_8859_1)) ?: fail("has an unreadable header")
    val (type, order, sizes) = header.destructured
    if (order != "False") fail("is in Fortran order")
    val shape = sizes.split(',').map { it.trim() }.filter { it.isNotEmpty() }.map { it.toIntOrNull() ?: fail("is too large") }
    val count = shape.fold(1L) { product, size -> (product * size).also { if (it > data.size) fail("is truncated") } }.toInt()
    buffer.position(start + length)
    val letters = TEXT.matchEntire(type)?.groupValues?.get(1)?.toInt()
    val itemBytes = when {
        type == "|u1" -> 1L
        type == "<f2" -> 2L
        type == "<f4" -> 4L
        letters != null -> 4L * letters
        else -> fail("is of type $type; only uint8, float16, float32 and strings are read")
    }
    if (buffer.remaining().toLong() != count * itemBytes) fail("is truncated")
    if (type == "|u1") return NpyArray(shape, bytes = ByteArray(count).also { buffer.get(it) })
    if (letters != null) return NpyArray(shape, texts = List(count) { text(buffer, letters) ?: fail("holds no text") })
    val floats = FloatArray(count)
    if (type == "<f4") buffer.asFloatBuffer().get(floats) else for (i in 0 until count) floats[i] = half(buffer.getShort().toInt())
    return NpyArray(shape, floats = floats)
}

/** NumPy's fixed-width string: code points of four bytes, zeros behind the end; null where one is no letter. */
private fun text(buffer: ByteBuffer, letters: Int): String? {
    val points = IntArray(letters) { buffer.getInt() }
    if (!points.all(Character::isValidCodePoint)) return null
    return String(points, 0, points.indexOfLast { it != 0 } + 1)
}

/** A float16 (IEEE 754 binary16) as float32, exactly. */
internal fun half(bits: Int): Float {
    val exponent = bits shr 10 and 0x1F
    val fraction = bits and 0x3FF
    val size = when (exponent) {
        0 -> Math.scalb(fraction.toFloat(), -24)
        0x1F -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
        else -> Math.scalb((fraction or 0x400).toFloat(), exponent - 25)
    }
    return if (bits and 0x8000 == 0) size else -size
}

private val MAGIC = byteArrayOf(0x93.toByte(), 'N'.code.toByte(), 'U'.code.toByte(), 'M'.code.toByte(), 'P'.code.toByte(), 'Y'.code.toByte())
private val HEADER = Regex("'descr': '([^']*)', 'fortran_order': (True|False), 'shape': \\(([0-9, ]*)\\)")
private val TEXT = Regex("<U([0-9]{1,3})")
