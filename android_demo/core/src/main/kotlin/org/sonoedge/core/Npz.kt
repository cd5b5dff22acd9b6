package org.sonoedge.core

import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipFile

/** An array in C order: [bytes] for `uint8`, [floats] for `float32`; the other one is empty. */
class NpyArray(val shape: List<Int>, val bytes: ByteArray, val floats: FloatArray) {
    /** Row [index] along the first axis of a float32 array. */
    fun row(index: Int): FloatArray {
        val size = shape.drop(1).fold(1, Int::times)
        return floats.copyOfRange(index * size, (index + 1) * size)
    }
}

/**
 * All arrays of a NumPy `.npz` archive by name: format versions 1–3, C order, little-endian `uint8` and `float32`.
 *
 * @throws BundleException the archive or one of its arrays cannot be read.
 */
fun readNpz(file: File): Map<String, NpyArray> = try {
    ZipFile(file).use { zip ->
        zip.entries().asSequence().associate { entry ->
            val data = zip.getInputStream(entry).use { it.readBytes() }
            entry.name.removeSuffix(".npy") to readNpy(data, entry.name)
        }
    }
} catch (error: IOException) {
    throw BundleException("${file.name} cannot be read: ${error.message}.", error)
}

/** One `.npy` file; see [readNpz]. */
internal fun readNpy(data: ByteArray, name: String): NpyArray {
    fun fail(what: String): Nothing = throw BundleException("$GOLDEN cannot be read: $name $what.")
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
    val count = shape.fold(1L) { product, size -> (product * size).also { if (it > data.size) fail("is truncated") } }
    buffer.position(start + length)
    val itemBytes = when (type) {
        "|u1" -> 1L
        "<f4" -> 4L
        else -> fail("is of type $type; only uint8 and float32 are read")
    }
    if (buffer.remaining() != (count * itemBytes).toInt()) fail("is truncated")
    if (type == "|u1") return NpyArray(shape, ByteArray(count.toInt()).also { buffer.get(it) }, FloatArray(0))
    return NpyArray(shape, ByteArray(0), FloatArray(count.toInt()).also { buffer.asFloatBuffer().get(it) })
}

private val MAGIC = byteArrayOf(0x93.toByte(), 'N'.code.toByte(), 'U'.code.toByte(), 'M'.code.toByte(), 'P'.code.toByte(), 'Y'.code.toByte())
private val HEADER = Regex("'descr': '([^']*)', 'fortran_order': (True|False), 'shape': \\(([0-9, ]*)\\)")
