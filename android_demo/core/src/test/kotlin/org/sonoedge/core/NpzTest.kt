package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.random.Random

class NpzTest {
    @TempDir
    lateinit var temporary: File

    @Test
    fun `reads the archive that NumPy wrote`() {
        val golden = Golden.read(loadBundle(Vectors.bundle))
        assertEquals(listOf(48 to 48, 60 to 81, 31 to 40, 64 to 50), golden.images.map { it.height to it.width })
        assertEquals(4, golden.referenceLogits.size)
        assertTrue(golden.referenceLogits.all { it.isFinite() })
    }

    @Test
    fun `reads versions 1 to 3`() {
        for (version in 1..3) {
            val array = readNpy(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", floats(1f, 2f, 3f, 4f), version), "a")
            assertEquals(listOf(2, 2), array.shape)
            assertArrayEquals(floatArrayOf(3f, 4f), array.row(1))
        }
        val halves = byteArrayOf(0, 0x3C, 0, 0xC0.toByte(), 1, 0, 0xFF.toByte(), 0x7B, 0, 0x7C, 1, 0x7C)
        assertArrayEquals(
            floatArrayOf(1f, -2f, Math.scalb(1f, -24), 65504f, Float.POSITIVE_INFINITY, Float.NaN),
            readNpy(npy("{'descr': '<f2', 'fortran_order': False, 'shape': (6,), }", halves), "a").floats,
        )
        val letters = byteArrayOf('a'.code.toByte(), 0, 0, 0, 'b'.code.toByte(), 0, 0, 0, 'c'.code.toByte(), 0, 0, 0, 0, 0, 0, 0)
        assertEquals(listOf("ab", "c"), readNpy(npy("{'descr': '<U2', 'fortran_order': False, 'shape': (2,), }", letters), "a").texts)
        assertEquals(emptyList<Int>(), readNpy(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (), }", byteArrayOf(7)), "a").shape)
    }

    @Test
    fun `what it cannot read is refused in words`() {
        val four = floats(1f, 2f, 3f, 4f)
        for ((header, data, words) in listOf(
            Triple("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", four, "only uint8, float16"),
            Triple("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", four, "only uint8, float16"),
            Triple("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", four, "Fortran"),
            Triple("{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", four, "truncated"),
            Triple("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", four, "truncated"),
            Triple("{'descr': '<f4', 'fortran_order': False, 'shape': (99999, 99999, 99999), }", four, "truncated"),
            Triple("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }", four, "too large"),
            Triple("{'descr': '<U3', 'fortran_order': False, 'shape': (4,), }", four, "truncated"),
            Triple("{'descr': '<U1', 'fortran_order': False, 'shape': (4,), }", four, "no text"),
            Triple("{'shape': (4,)}", four, "unreadable header"),
        )) {
            val error = assertThrows<BundleException>(header) { readNpy(npy(header, data), "a.npy") }
            assertTrue(words in error.message, error.message)
        }
        assertThrows<BundleException> { readNpy("hello, world".toByteArray(), "a.npy") }
    }

    @Test
    fun `random bytes and cuts give an array or a BundleException`() {
        val random = Random(3)
        val whole = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", floats(1f, 2f, 3f, 4f))
        repeat(3000) {
            val data = whole.copyOf(random.nextInt(whole.size + 1))
            repeat(random.nextInt(4)) { if (data.isNotEmpty()) data[random.nextInt(data.size)] = random.nextInt().toByte() }
            try {
                readNpy(data, "a.npy")
            } catch (_: BundleException) {
                // refused
            }
        }
    }

    @Test
    fun `a damaged archive is refused`() {
        val file = File(temporary, "golden.npz")
        val whole = File(Vectors.bundle, GOLDEN).readBytes()
        for (data in listOf(ByteArray(0), "no zip".toByteArray(), whole.copyOf(whole.size / 2))) {
            file.writeBytes(data)
            assertTrue("golden.npz cannot be read" in assertThrows<BundleException> { readNpz(file) }.message)
        }
    }

    private fun floats(vararg values: Float): ByteArray =
        ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { b -> values.forEach { b.putFloat(it) } }.array()

}

/** A `.npy` file. */
fun npy(header: String, data: ByteArray, version: Int = 1): ByteArray {
    val size = header.length + 1
    val length = ByteBuffer.allocate(if (version == 1) 2 else 4).order(ByteOrder.LITTLE_ENDIAN)
    if (version == 1) length.putShort(size.toShort()) else length.putInt(size)
    val magic = byteArrayOf(0x93.toByte()) + "NUMPY".toByteArray() + byteArrayOf(version.toByte(), 0)
    return magic + length.array() + "$header\n".toByteArray(Charsets.ISO_8859_1) + data
}
