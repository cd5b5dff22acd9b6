package org.sonoedge.app

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.sonoedge.core.Golden
import org.sonoedge.core.ModelException
import org.sonoedge.core.loadBundle
import org.sonoedge.core.selfTest
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.max

/** The AAR's own interpreter, on real files, against what Python computed with them. */
@RunWith(RobolectricTestRunner::class)
class InterpreterTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val bundle = loadBundle(Vectors.bundle)
    private fun settings(artifact: String?, accelerator: Accelerator = Accelerator.CPU, threads: Int = 1) =
        Settings(artifact, threads, accelerator)

    @Test
    fun `probabilities, decisions, maps and shares are Python's`() {
        val lines = ArrayList<String>()
        val worst = ArrayList<Triple<String, Double, Double>>()
        for (artifact in bundle.runnable) {
            var probability = 0.0
            var map = 0.0
            var share = 0.0
            val cases = Vectors.cases("answers").filter { it["artifact"] == artifact.name }
            openClassifier(bundle, settings(artifact.name)).use { open ->
                for (case in cases) {
                    val (height, width) = case.ints("size")
                    val answer = open.classifier.predict(noise(height, width, case.int("seed")))
                    assertEquals(case["label"], answer.label)
                    probability = max(probability, abs(answer.probability - case.double("probability")))
                    map = max(map, largest(answer.cam!!.values, case.map("cam")))
                    for ((name, cam) in case.map("branch_cams")) {
                        map = max(map, largest(answer.branchCams.getValue(name as String).values, cam as Map<*, *>))
                    }
                    for ((name, value) in case.map("shares")) {
                        val difference = abs(answer.shares.getValue(name as String) - (value as Number).toDouble())
                        share = max(share, difference / max(1.0, abs(case.double("logit"))))
                    }
                    assertEquals(answer.logit.toDouble(), answer.shares.values.sum().toDouble(), 1e-4)
                }
            }
            lines += "${artifact.name} (${cases.size} pictures): probability %.1e, map / peak %.1e, share / logit %.1e".format(probability, map, share)
            // Integer kernels of two interpreter versions differ by a unit here and there; decisions must not.
            val whole = artifact.precision != "fp32"
            worst += Triple("${artifact.name}, probability", if (whole) 5e-3 else 1e-4, probability)
            worst += Triple("${artifact.name}, maps and shares", if (whole) 5e-2 else 1e-4, max(map, share))
        }
        File(System.getProperty("reports")!!, "parity.txt").writeText(lines.joinToString("\n") + "\n")
        for ((name, allowed, found) in worst) assertTrue("$name is off by $found", found <= allowed)
    }

    @Test
    fun `the self-test passes with every file, on one thread and two`() {
        val golden = Golden.read(bundle)
        for (artifact in bundle.runnable) for (threads in 1..2) {
            openClassifier(bundle, settings(artifact.name, threads = threads)).use { open ->
                val result = selfTest(bundle, golden, open.classifier)
                assertTrue("$result", result.passed)
                assertEquals(0, result.flips)
            }
        }
    }

    @Test
    fun `an accelerator that is not there falls back to the CPU and says why`() {
        for (accelerator in listOf(Accelerator.NNAPI, Accelerator.GPU)) {
            openClassifier(bundle, settings(null, accelerator)).use { open ->
                assertEquals(Accelerator.CPU, open.executed.accelerator)
                assertTrue(open.executed.fallback!!.length > 20)
                assertNotNull(open.classifier.predict(noise(48, 48, 1)).cam)
            }
        }
        openClassifier(bundle, settings(null)).use { assertNull(it.executed.fallback) }
    }

    @Test
    fun `a damaged model file is refused in words`() {
        val whole = File(Vectors.bundle, "tflite-fp32/backbone.tflite").readBytes()
        for (data in listOf(ByteArray(0), "no model".toByteArray(), whole.copyOf(100), whole.copyOf(whole.size / 2))) {
            val file = temporary.newFile().also { it.writeBytes(data) }
            val error = assertThrows(ModelException::class.java) { TfliteRunner(file, 1).close() }
            assertTrue(error.message, file.name in error.message)
        }
        assertThrows(ModelException::class.java) { TfliteRunner(File("/nowhere.tflite"), 1) }
    }

    @Test
    fun `an interpreter that cannot be loaded is told`() {
        for (failure in listOf(UnsatisfiedLinkError("no tensorflowlite_jni"), NoClassDefFoundError("org/tensorflow"))) {
            val error = assertThrows(ModelException::class.java) { orModelException<Unit>("a.tflite") { throw failure } }
            assertTrue(error.message, error.message.startsWith("The interpreter's library cannot be loaded on this device: "))
        }
    }

    @Test
    fun `a bundle without a file for phones says what to do`() {
        val desktop = bundle.copy(artifacts = bundle.artifacts.map { it.copy(runtime = "openvino") })
        val error = assertThrows(ModelException::class.java) { openClassifier(desktop, settings(null)) }
        assertTrue(error.message, "--format tflite-int8" in error.message)
    }

    /** Largest difference, as a part of the map's peak. */
    private fun largest(values: FloatArray, wanted: Map<*, *>): Double {
        val floats = ByteBuffer.wrap(wanted.bytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        assertEquals(floats.remaining(), values.size)
        val peak = values.indices.maxOf { abs(floats.get(it)) }
        return values.indices.maxOf { abs(values[it] - floats.get(it)) / peak }.toDouble()
    }
}
