package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.DynamicTest.dynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.assertThrows

/** What both models of a cascade make of their outputs; on the interpreter they run in the app's tests. */
class CascadeTest {
    private val bundle = loadBundle(Vectors.cascade)
    private val spec = bundle.cascade!!
    private val first = bundle.first!!

    /** A classifier whose head gives these logits, a map of ones, and shares of 0.5 a branch and 0.25 beside. */
    private fun classifier(bundle: Bundle, artifact: Artifact, logits: List<Float>): Pair<Classifier, Recorded> {
        val maps = bundle.branches.associate { it.name to it.shape }
        val empty = maps.mapValues { FloatArray(it.value.fold(1, Int::times)) }
        val backbone = Recorded(
            mapOf("image" to listOf(1, bundle.input.height, bundle.input.width, 3)), maps,
            generateSequence { empty }.iterator(),
        )
        val shares = maps.keys.associate { "share_$it" to 0.5f } + ("share_bias" to 0.25f)
        val cams = maps.keys.map { "cam_$it" } + "cam"
        val head = Recorded(
            maps,
            (shares.keys + "logit" + "probability").associateWith { listOf(1, 1) } +
                cams.associateWith { listOf(1, 2, 2) },
            logits.map { logit ->
                val single = shares + ("logit" to logit) + ("probability" to sigmoid(logit.toDouble()).toFloat())
                single.mapValues { floatArrayOf(it.value) } + cams.associateWith { FloatArray(4) { 1f } }
            }.iterator(),
        )
        return Classifier(bundle, artifact, backbone, head) to backbone
    }

    private fun cascade(bundle: Bundle, firstLogit: Float, fullLogit: Float = 3f, frames: Int = 1): Cascade {
        val (cheap, dear) = bundle.cascadeArtifacts
        return Cascade(
            classifier(first, cheap, List(frames) { firstLogit }).first,
            classifier(bundle, dear, List(frames) { fullLogit }).first,
        )
    }

    @Test
    fun `reads what Python wrote`() {
        assertEquals(listOf("cascade", "tflite-int8", "tflite-fp32"), bundle.choices.map { it.name })
        assertEquals(listOf("tflite-int8", "tflite-fp32"), bundle.cascadeArtifacts.map { it.name })
        assertEquals(InputSpec(48, 48) to InputSpec(32, 32), bundle.input to first.input)
        assertEquals(0.6, spec.escalated)
        val both = bundle.choice(null)!!
        assertEquals(bundle.cascadeArtifacts.sumOf { it.sizeBytes }, both.sizeBytes)
        assertEquals(both, bundle.choice("none of that name"))
        assertEquals(listOf("tflite-int8", "tflite-fp32"), loadBundle(Vectors.bundle).choices.map { it.name })
    }

    @TestFactory
    fun `decisions are Python's, on the margin and beside it`(): List<DynamicTest> =
        Vectors.cases("cascade_decisions").map { case ->
            dynamicTest(case.entries.take(5).joinToString { (name, value) -> "$name $value" }) {
                val full = bundle.artifacts[0].copy(threshold = case.double("threshold"))
                val changed = spec.copy(
                    fullArtifact = full.name, scale = case.double("scale"), offset = case.double("offset"),
                    margin = case.double("margin"),
                )
                val logit = (case["first_logit"] as Number?)?.toFloat() ?: Float.NaN
                val near = bundle.copy(artifacts = listOf(full), cascade = changed)
                val answer = cascade(near, logit).predict(noise(8, 8, 1))
                assertEquals(case["artifact"] to case["label"], answer.artifact to answer.label)
                assertEquals(case.double("logit"), answer.logit)
                // Of the full model it is the head's, a float32.
                assertEquals(case.double("probability"), answer.probability, 1e-7)
                assertEquals(full.threshold, answer.threshold)
            }
        }

    @Test
    fun `the cheap model's maps and shares are on the full model's scale`() {
        val sure = spec.copy(scale = 2.0, offset = 0.75, margin = 0.0)
        val answer = cascade(bundle.copy(cascade = sure), 1f).predict(noise(8, 8, 1))
        assertEquals(2.75, answer.logit)
        assertEquals(mapOf("branch_0" to 1f, "bias" to 1.25f), answer.shares)
        assertEquals(List(4) { 2f }, answer.cam!!.values.toList())
        assertEquals(List(4) { 2f }, answer.branchCams.getValue("branch_0").values.toList())
        assertEquals(sigmoid(2.95), answer.band(0.1f).endInclusive, 1e-6)
        val asked = cascade(bundle.copy(cascade = spec.copy(margin = 100.0)), 1f).predict(noise(8, 8, 1))
        assertEquals(setOf("branch_0", "branch_1", "bias"), asked.shares.keys)
        assertEquals(0.5f to 1f, asked.shares["branch_0"] to asked.cam!!.values[0])
    }

    @Test
    fun `each model resizes the picture to its own size, the full one only where it is asked`() {
        val (cheap, dear) = bundle.cascadeArtifacts
        val (one, seenByOne) = classifier(first, cheap, listOf(-100f, 0f))
        val near = bundle.copy(cascade = spec.copy(scale = 1.0, offset = 0.0, margin = 1.0))
        val (two, seenByTwo) = classifier(near, dear, listOf(3f))
        Cascade(one, two).use { cascade ->
            val sure = cascade.predict(noise(50, 70, 1))
            assertEquals(spec.first + "/" + cheap.name, sure.artifact)
            assertTrue(seenByTwo.asked.isEmpty())
            val asked = cascade.predict(noise(50, 70, 2))
            assertEquals(dear.name, asked.artifact)
            assertTrue(asked.latency.totalMs > 0)
        }
        assertEquals(toInput(noise(50, 70, 2), 32, 32).toList(), seenByOne.asked[1].getValue("image").toList())
        assertEquals(toInput(noise(50, 70, 2), 48, 48).toList(), seenByTwo.asked.single().getValue("image").toList())
        assertTrue(seenByOne.closed && seenByTwo.closed)
    }

    @Test
    fun `the self-test replays both models`() {
        val (cheap, dear) = bundle.cascadeArtifacts
        val (small, large) = Golden.read(first) to Golden.read(bundle)
        val results = selfTests(
            Cascade(
                classifier(first, cheap, small.logits(cheap).toList()).first,
                classifier(bundle, dear, large.logits(dear).map { it + 50 }).first,
            ),
        )
        assertEquals(listOf("first/tflite-int8", "tflite-fp32"), results.map { it.artifact })
        assertEquals(listOf(0.0, 50.0), results.map { Math.rint(it.replayError) })
        assertEquals(small.tolerance(cheap), results[0].tolerance)
    }

    @Test
    fun `the benchmark times sure frames and asked ones in turns`() {
        val result = benchmark(cascade(bundle, 0f, frames = 100), noise(8, 8, 1), initMs = 7.0, runs = 5, warmUp = 2)!!
        assertEquals(10, result.samples.size)
        val (sure, both) = result.sure.total.p50 to result.both!!.total.p50
        assertEquals(sure + 0.6 * (both - sure), result.typicalMs(Stages::total), 1e-9)
        val device = Device("chip", "arm64-v8a", "Android 14", 8, null, null, 4, emptyMap(), "2026-01-01T00:00:00Z")
        val json = JsonReader.read(runJson(bundle, bundle.choice(null)!!, device, result, emptyList())) as Map<*, *>
        val candidate = json.item<List<Map<*, *>>>("candidates").single()
        assertEquals(listOf("cascade", "cascade", 0.6), listOf("name", "precision", "escalated").map { candidate[it] })
        assertEquals("student tflite-int8 first, tflite-fp32 where that is not sure", candidate["note"])
        assertNull(candidate["error"])
    }

    @Test
    fun `a plain bundle holds no cascade`() {
        val plain = loadBundle(Vectors.bundle)
        val (model, _) = classifier(plain, plain.artifacts[0], emptyList())
        assertEquals("small holds no cascade.", assertThrows<BundleException> { Cascade(model, model) }.message)
    }
}
