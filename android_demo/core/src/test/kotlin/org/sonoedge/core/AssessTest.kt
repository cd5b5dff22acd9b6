package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipFile
import java.util.zip.ZipOutputStream

/** Picture quality, gate and verdict; whole answers of real models stand in the app's tests. */
class AssessTest {
    @TempDir
    lateinit var temporary: File

    private val bundle = loadBundle(Vectors.bundle)

    @TestFactory
    fun `picture quality is Python's`(): List<DynamicTest> = Vectors.cases("quality").map { case ->
        dynamicTest("${case["picture"]} ${case["hints"]}") {
            val image = drawn(case["picture"] as List<*>)
            val measured = quality(image)
            // NumPy adds up in single precision.
            assertEquals(case.double("brightness"), measured.brightness, 1e-3)
            assertEquals(case.double("contrast"), measured.contrast, 1e-3)
            assertEquals(case.double("speckle"), measured.speckle, 1e-6)
            assertEquals(case.double("colour"), measured.colour, 1e-9)
            assertEquals(case.double("overlay"), measured.overlay, 1e-9)
            assertEquals(case["hints"], hints(image, measured))
        }
    }

    @TestFactory
    fun `distances are Python's`(): List<DynamicTest> = Vectors.cases("gate").mapIndexed { i, case ->
        dynamicTest("$i ${case["distance"]}") {
            val gate = loadGate(bundle, case["artifact"] as String)!!
            val gateResult = gate.check(case.map("maps").entries.associate { (name, map) -> name as String to (map as Map<*, *>).floats() })
            assertEquals(case.double("distance"), gateResult.distance, 1e-4 * case.double("distance"))
            assertEquals(case.double("threshold") to case.double("warning"), gateResult.threshold to gateResult.warning)
        }
    }

    /** All combinations; those with shifted views, for which the app does not ask, are left out. */
    @Test
    fun `verdicts are Python's`() {
        val table = JsonReader.read(File(Vectors.folder, "assess.json").readText()) as Map<*, *>
        val assessments = table.item<List<Map<*, *>>>("assessments").map {
            Assessment(it["verdict"] as String, it.item("reasons"), it["text"] as String)
        }
        var at = 0
        val seen = HashSet<Assessment>()
        for (gate in table.item<List<Map<*, *>?>>("gates")) for (hints in table.item<List<List<String>>>("hints")) {
            for (band in table.item<List<Any?>>("bands")) for (probability in table.item<List<Double>>("probabilities")) {
                val wanted = assessments[table.item<String>("expected")[at++].digitToInt()]
                if (band != null) continue
                val gateResult = gate?.let {
                    GateResult((it["distance"] as Number?)?.toDouble() ?: Double.NaN, it.double("threshold"), it.double("warning"))
                }
                assertEquals(wanted, assess(bundle, probability, table.double("threshold"), gateResult, hints), "$gate $hints $probability")
                seen += wanted
            }
        }
        assertEquals(table.item<String>("expected").length, at)
        assertEquals(setOf("suspicious", "not_suspicious", "uncertain", "refused"), seen.map { it.verdict }.toSet())
        assertTrue(seen.size >= 7, "$seen")
    }

    @Test
    fun `without a gate picture quality and threshold decide, and a NaN is refused by a gate`() {
        assertEquals("suspicious", assess(bundle, 0.5, 0.5, null, listOf("dark")).verdict)
        assertEquals("uncertain", assess(bundle, 0.9, 0.5, null, listOf("flat")).verdict)
        assertEquals("refused", assess(bundle, 0.9, 0.5, GateResult(Double.NaN, 2.0, 1.0), emptyList()).verdict)
        // On the limits a picture is still what it was below them.
        assertEquals("suspicious", assess(bundle, 0.9, 0.5, GateResult(1.0, 2.0, 1.0), emptyList()).verdict)
        assertEquals("uncertain", assess(bundle, 0.9, 0.5, GateResult(2.0, 2.0, 1.0), emptyList()).verdict)
        assertEquals("refused", assess(bundle, 0.9, 0.5, GateResult(1.5, 1.2, 3.0), emptyList()).verdict)
    }

    @Test
    fun `a refused answer holds no numbers`() {
        fun answered(distance: Double, probability: Double = 0.9) = answer(
            bundle,
            object : Model {
                override val artifact = bundle.artifacts[0]
                override val classifiers = emptyMap<String, Classifier>()
                override val escalated: Double? = null
                override fun predict(image: RgbImage) = Prediction(
                    "malignant", probability, 2.2, 0.5, artifact.name, Latency(1.0, 1.0, 1.0), null, emptyMap(), emptyMap(),
                    GateResult(distance, 2.0, 1.0),
                )
                override fun turns(image: RgbImage): List<Latency> = error("not asked")
                override fun close() = Unit
            },
            drawn(listOf("grey", 130L, 140L, 1L)),
        )
        assertEquals("refused", answered(2.1).assessment.verdict)
        assertNull(answered(2.1).prediction)
        assertNotNull(answered(1.5).prediction)
        assertEquals(2.1, answered(2.1).gateResult!!.distance)
        assertThrows<ModelException> { answered(1.0, Double.NaN) }
    }

    @Test
    fun `a bundle without a gate, or without one for the file, has none`() {
        assertNull(loadGate(bundle.copy(folder = temporary), "tflite-fp32"))
        assertNotNull(loadGate(gated { it }, "tflite-fp32"))
        assertNull(loadGate(bundle, "onnx-fp32"))
    }

    @Test
    fun `a domain_npz that does not fit is refused`() {
        fun floats(shape: String, count: Int) = npy("{'descr': '<f4', 'fortran_order': False, 'shape': $shape, }", ByteArray(4 * count))
        val names = npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", byteArrayOf('a'.code.toByte(), 0, 0, 0))
        val nan = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", byteArrayOf(0, 0, 0xC0.toByte(), 0x7F))
        for ((name, data, words) in listOf(
            Triple("branches", names, "describes the branches [a]"),
            Triple("mean", floats("(3,)", 3), "mean must be finite and of shape"),
            Triple("noise", floats("()", 1), "variances must be positive"),
            Triple("components", null, "lacks the array components"),
            Triple("warning.tflite-fp32", null, "lacks the array warning.tflite-fp32"),
            Triple("threshold.tflite-fp32", nan, "must be finite"),
        )) {
            val gated = gated { arrays -> if (data == null) arrays - "$name.npy" else arrays + ("$name.npy" to data) }
            val error = assertThrows<BundleException>(name) { loadGate(gated, "tflite-fp32") }
            assertTrue(words in error.message, error.message)
        }
        val broken = gated { it }
        File(broken.folder, GATE_FILE).writeText("no zip")
        assertTrue("domain.npz cannot be read" in assertThrows<BundleException> { loadGate(broken, "tflite-fp32") }.message)
    }

    /** The small bundle with its domain.npz, of which [change] may have changed entries. */
    private fun gated(change: (Map<String, ByteArray>) -> Map<String, ByteArray>): Bundle {
        val folder = File(temporary, "gated").also { it.mkdirs() }
        val arrays = ZipFile(File(Vectors.bundle, GATE_FILE)).use { zip ->
            zip.entries().asSequence().associate { it.name to zip.getInputStream(it).readBytes() }
        }
        ZipOutputStream(File(folder, GATE_FILE).outputStream()).use { zip ->
            for ((name, data) in change(arrays)) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(data)
            }
        }
        return bundle.copy(folder = folder)
    }
}
