package org.sonoedge.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.assertThrows

/** The parts around the interpreter; the interpreter itself runs in the app's tests. */
class ClassifierTest {
    private val bundle = loadBundle(Vectors.bundle)
    private val golden = Golden.read(bundle)
    private val artifact = bundle.artifacts[0]
    private val maps = bundle.branches.associate { it.name to it.shape }

    private fun backbone(outputs: Map<String, List<Int>> = maps, size: Int = 48) = Recorded(
        mapOf("image" to listOf(1, size, size, 3)), outputs,
        generateSequence { outputs.mapValues { FloatArray(it.value.fold(1, Int::times)) } }.iterator(),
    )

    private fun head(logits: List<Float>, cams: List<FloatArray>): Recorded = Recorded(
        maps,
        mapOf("logit" to listOf(1, 1), "probability" to listOf(1, 1), "cam" to listOf(1, 24, 24), "cam_branch_0" to listOf(1, 12, 12), "share_branch_0" to listOf(1, 1), "share_bias" to listOf(1, 1)),
        logits.indices.map { i ->
            mapOf(
                "logit" to floatArrayOf(logits[i]), "cam" to cams[i],
                "probability" to floatArrayOf(sigmoid(logits[i].toDouble()).toFloat()),
                "cam_branch_0" to FloatArray(144), "share_branch_0" to floatArrayOf(0.75f), "share_bias" to floatArrayOf(-0.5f),
            )
        }.iterator(),
    )

    private fun replayed(shift: Float = 0f, cams: List<FloatArray> = golden.cams(artifact)): SelfTest =
        Classifier(bundle, artifact, backbone(), head(golden.logits(artifact).map { it + shift }, cams))
            .use { selfTests(it).single() }

    @Test
    fun `an answer holds what the head gave`() {
        val runner = backbone()
        val answer = Classifier(bundle, artifact, runner, head(listOf(0.3f), golden.cams(artifact))).predict(noise(96, 131, 2))
        assertEquals("malignant", answer.label)
        assertEquals(0.574, answer.probability, 1e-3)
        assertEquals(24 to 24, answer.cam!!.rows to answer.cam.columns)
        assertEquals(mapOf("branch_0" to 0.75f, "bias" to -0.5f), answer.shares)
        assertEquals(setOf("branch_0"), answer.branchCams.keys)
        assertEquals(toInput(noise(96, 131, 2), 48, 48).toList(), runner.asked.single().getValue("image").toList())
        val band = answer.band(0.1f)
        assertTrue(band.start < answer.probability && answer.probability < band.endInclusive)
        assertEquals(sigmoid(0.4), band.endInclusive, 1e-6)
    }

    @Test
    fun `other tensors than the bundle promises are refused, and both files closed`() {
        for (runner in listOf(backbone(size = 64), backbone(maps - "branch_1"), backbone(maps.mapValues { listOf(1, 2, 2, 2) }))) {
            val head = head(emptyList(), emptyList())
            val error = assertThrows<BundleException> { Classifier(bundle, artifact, runner, head) }
            assertTrue("must be" in error.message && "Received" in error.message, error.message)
            assertTrue(runner.closed && head.closed)
        }
    }

    @Test
    fun `more than two classes are refused`() {
        val three = bundle.copy(labels = listOf("a", "b", "c"), positiveLabel = "a")
        val error = assertThrows<BundleException> { Classifier(three, artifact, backbone(), head(emptyList(), emptyList())) }
        assertTrue("binary" in error.message)
    }

    @Test
    fun `a faithful device passes the self-test`() {
        val result = replayed()
        assertTrue(result.passed)
        assertEquals(0.0, result.replayError)
        assertEquals(0, result.flips)
        assertEquals(4, result.images)
    }

    @Test
    fun `a device that computes something else fails it`() {
        val tolerance = golden.tolerance(artifact)
        assertFalse(replayed(shift = 2 * tolerance[0].toFloat()).passed)
        assertEquals(4, replayed(shift = 50f).flips + replayed(shift = -50f).flips)
        assertFalse(replayed(shift = Float.NaN).passed)
        val wrongMaps = replayed(cams = golden.cams(artifact).map { cam -> FloatArray(cam.size) { -cam[it] } })
        assertFalse(wrongMaps.passed)
        assertEquals(2.0, wrongMaps.camError, 1e-6)
        assertFalse(replayed(cams = List(4) { FloatArray(3) }).passed)
    }

    @Test
    fun `a benchmark leaves the warm-up out, and stops when it is told to`() {
        fun open(n: Int) = Classifier(bundle, artifact, backbone(), head(List(n) { 0f }, List(n) { golden.cams(artifact)[0] }))
        val result = benchmark(open(12), golden.images[0], initMs = 7.0, runs = 8, warmUp = 4)!!
        assertEquals(8, result.samples.size)
        assertNull(result.both)
        val total = result.sure.total
        assertEquals(total.p50, result.typicalMs(Stages::total))
        assertTrue(total.min <= total.p50 && total.p50 <= total.p90 && total.p90 <= total.p99)
        assertNull(benchmark(open(1), golden.images[0], 0.0, runs = 8, cancelled = { true }))
        assertThrows<IllegalArgumentException> { benchmark(open(1), golden.images[0], 0.0, runs = 0) }
        val device = Device("chip", "arm64-v8a", "Android 14", 8, null, null, 4, mapOf("interpreter" to "x 1"), "2026-01-01T00:00:00Z")
        val failed = listOf(replayed(shift = Float.NaN))
        val json = JsonReader.read(runJson(bundle, artifact, device, result, failed)) as Map<*, *>
        assertEquals(bundle.digest.take(16), json["bundle_digest"])
        val candidate = json.item<List<Map<*, *>>>("candidates").single()
        assertEquals(result.samples.map { it.totalMs }, candidate.map("timing")["samples_ms"])
        assertEquals(7.0, candidate["init_ms"])
        val selfTest = json.map("provenance").item<List<Map<*, *>>>("self_tests").single()
        assertEquals(false, selfTest["passed"])
        assertNull(selfTest["replay_error"])
    }

    @Test
    fun `percentiles are by nearest rank`() {
        val p = Percentiles.of((1..100).map { it.toDouble() }.shuffled())
        assertEquals(listOf(50.0, 90.0, 99.0, 1.0), listOf(p.p50, p.p90, p.p99, p.min))
        assertEquals(3.0, Percentiles.of(listOf(3.0)).p99)
    }
}
