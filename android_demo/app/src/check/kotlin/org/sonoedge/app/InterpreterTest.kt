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
import org.sonoedge.core.BundleException
import org.sonoedge.core.Model
import org.sonoedge.core.ModelException
import org.sonoedge.core.RgbImage
import org.sonoedge.core.SUMS
import org.sonoedge.core.answer
import org.sonoedge.core.loadBundle
import org.sonoedge.core.selfTests
import org.sonoedge.core.sha256
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
        val worst = bundle.runnable.map { artifact ->
            openModel(bundle, settings(artifact.name)).use { open ->
                val cases = Vectors.cases("answers").filter { it["artifact"] == artifact.name }
                val off = differences(cases, open.model) {
                    noise(it.ints("size")[0], it.ints("size")[1], it.int("seed"))
                }
                Triple(artifact.name, artifact.precision != "fp32", off)
            }
        }
        check(worst, "parity.txt")
    }

    @Test
    fun `the gate measures what Python measures, and the verdicts are the same`() {
        val off = HashMap<String, Double>()
        val choices = bundle.runnable.map { it.name to bundle } + ("cascade" to loadBundle(Vectors.cascade))
        for ((choice, bundle) in choices) openModel(bundle, settings(choice)).use { open ->
            val own = Vectors.verdicts(if (choice == "cascade") choice else "bundle")
            for (case in own.filter { choice == "cascade" || it["artifact"] == choice }) {
                val answer = answer(bundle, open.model, drawn(case["picture"] as List<*>))
                assertEquals(case["verdict"] to case["reasons"], answer.assessment.verdict to answer.assessment.reasons)
                assertEquals(case["text"] to case["hints"], answer.assessment.text to answer.hints)
                assertEquals(case["label"], answer.prediction?.label)
                val (wanted, gate) = case.map("gate").double("distance") to answer.gateResult!!
                assertEquals(case.map("gate").double("threshold"), gate.threshold, 0.0)
                assertEquals(case.map("gate").double("warning"), gate.warning, 0.0)
                val name = case["artifact"] as String
                off[name] = max(off[name] ?: 0.0, abs(gate.distance - wanted) / wanted)
            }
        }
        val lines = off.toSortedMap().map { (name, worst) -> "$name: distance, relative %.1e".format(worst) }
        File(System.getProperty("reports")!!, "parity_gate.txt").writeText(lines.joinToString("\n") + "\n")
        assertEquals(3, lines.size)
        // Integer kernels of two interpreter versions differ; verdicts do not.
        assertTrue("$off", off.getValue("tflite-fp32") < 1e-4)
    }

    @Test
    fun `a cascade of which only one model has a gate is refused, and both files are closed`() {
        val folder = temporary.newFolder().also { Vectors.cascade.copyRecursively(it, overwrite = true) }
        removeGate(File(folder, "first"))
        val names = folder.walk().filter { it.isFile }.map { it.relativeTo(folder).invariantSeparatorsPath }
        File(folder, SUMS).writeText((names - SUMS).sorted().joinToString("") { "${sha256(File(folder, it))}  $it\n" })
        val gated = loadBundle(folder)
        val error = assertThrows(BundleException::class.java) { openModel(gated, settings(null)) }
        assertTrue(error.message, "the cheap model has no gate" in error.message)
        openModel(gated, settings("tflite-fp32")).use { assertNotNull(it.model.predict(noise(48, 48, 1)).gateResult) }
    }

    @Test
    fun `a cascade decides as Python's, picture by picture`() {
        val bundle = loadBundle(Vectors.cascade)
        val cases = Vectors.cases("cascade_answers")
        assertEquals(setOf("first/tflite-int8", "tflite-fp32"), cases.map { it["artifact"] }.toSet())
        for (threads in 1..2) openModel(bundle, settings(null, threads = threads)).use { open ->
            val worst = cases.groupBy { it["artifact"] as String }.map { (name, own) ->
                val off = differences(own, open.model) {
                    mixed(it.ints("size")[0], it.ints("size")[1], it.int("seed"), it.int("rows"))
                }
                Triple(name, name.endsWith("int8"), off)
            }
            check(worst, "parity_cascade.txt")
        }
    }

    @Test
    fun `the self-test passes with every file, on one thread and two`() {
        val bundles = listOf(bundle, loadBundle(Vectors.cascade))
        val choices = bundles.flatMap { bundle -> bundle.choices.map { bundle to it } }
        for ((bundle, artifact) in choices) for (threads in 1..2) {
            openModel(bundle, settings(artifact.name, threads = threads)).use { open ->
                val results = selfTests(open.model)
                assertEquals(open.model.classifiers.size, results.size)
                for (result in results) {
                    assertTrue("$result", result.passed)
                    assertEquals(0, result.flips)
                }
            }
        }
    }

    @Test
    fun `a cascade of files that a phone cannot run says what to do, one of them alone runs`() {
        val bundle = loadBundle(Vectors.cascade)
        val first = bundle.first!!
        val desktop = bundle.copy(first = first.copy(artifacts = first.artifacts.map { it.copy(runtime = "openvino") }))
        val error = assertThrows(ModelException::class.java) { openModel(desktop, settings(null)) }
        assertTrue(error.message, "--first-artifact" in error.message && "openvino" in error.message)
        openModel(desktop, settings("tflite-fp32")).use { assertNotNull(it.model.predict(noise(48, 48, 1)).cam) }
    }

    @Test
    fun `a cascade falls back to the CPU as a whole`() {
        openModel(loadBundle(Vectors.cascade), settings(null, Accelerator.GPU)).use { open ->
            assertEquals(Accelerator.CPU, open.executed.accelerator)
            assertTrue(open.executed.fallback!!.length > 20)
            assertEquals(2, open.model.classifiers.size)
        }
    }

    @Test
    fun `an accelerator that is not there falls back to the CPU and says why`() {
        openModel(bundle, settings(null, Accelerator.GPU)).use { open ->
            assertEquals(Accelerator.CPU, open.executed.accelerator)
            assertTrue(open.executed.fallback!!.length > 20)
            assertNotNull(open.model.predict(noise(48, 48, 1)).cam)
        }
        openModel(bundle, settings(null)).use { assertNull(it.executed.fallback) }
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
        val error = assertThrows(ModelException::class.java) { openModel(desktop, settings(null)) }
        assertTrue(error.message, "--format tflite-int8" in error.message)
    }

    /** How far probabilities, maps (of their peak) and shares (of the logit) are from Python's; decisions are equal. */
    private fun differences(
        cases: List<Map<String, Any?>>, model: Model, picture: (Map<String, Any?>) -> RgbImage,
    ): Triple<Double, Double, Double> {
        var probability = 0.0
        var map = 0.0
        var share = 0.0
        for (case in cases) {
            val answer = model.predict(picture(case))
            assertEquals(case["artifact"] to case["label"], answer.artifact to answer.label)
            probability = max(probability, abs(answer.probability - case.double("probability")))
            map = max(map, largest(answer.cam!!.values, case.map("cam")))
            assertEquals(case.map("branch_cams").keys, answer.branchCams.keys)
            for ((name, cam) in case.map("branch_cams")) {
                map = max(map, largest(answer.branchCams.getValue(name as String).values, cam as Map<*, *>))
            }
            for ((name, value) in case.map("shares")) {
                val difference = abs(answer.shares.getValue(name as String) - (value as Number).toDouble())
                share = max(share, difference / max(1.0, abs(case.double("logit"))))
            }
            assertEquals(answer.logit, answer.shares.values.sum().toDouble(), 1e-4)
        }
        return Triple(probability, map, share)
    }

    /** Integer kernels of two interpreter versions differ by a unit here and there; decisions must not. */
    private fun check(worst: List<Triple<String, Boolean, Triple<Double, Double, Double>>>, report: String) {
        val lines = worst.map { (name, _, off) ->
            "$name: probability %.1e, map / peak %.1e, share / logit %.1e".format(off.first, off.second, off.third)
        }
        File(System.getProperty("reports")!!, report).writeText(lines.joinToString("\n") + "\n")
        for ((name, whole, off) in worst) {
            assertTrue("$name: probabilities are off by ${off.first}", off.first <= if (whole) 5e-3 else 1e-4)
            assertTrue("$name: maps, shares are off by $off", max(off.second, off.third) <= if (whole) 5e-2 else 1e-4)
        }
    }

    /** Largest difference, as a part of the map's peak; of an empty map as it is. */
    private fun largest(values: FloatArray, wanted: Map<*, *>): Double {
        val floats = ByteBuffer.wrap(wanted.bytes()).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        assertEquals(floats.remaining(), values.size)
        val peak = values.indices.maxOf { abs(floats.get(it)) }.takeIf { it > 0f } ?: 1f
        return values.indices.maxOf { abs(values[it] - floats.get(it)) / peak }.toDouble()
    }
}
