package org.sonoedge.core

import kotlin.math.ceil

/**
 * Single-picture latency, picture by picture, after a warm-up that is not counted; [initMs]: opening the files.
 *
 * @property samples of a cascade in turns: a frame of which the cheap model is sure, one for which both are asked.
 * @property escalated see [Model.escalated]; null: no cascade.
 */
data class Benchmark(val initMs: Double, val firstMs: Double, val samples: List<Latency>, val escalated: Double?) {
    /** All frames; of a cascade those of which the cheap model is sure. */
    val sure: Stages get() = Stages(if (escalated == null) samples else samples.filterIndexed { i, _ -> i % 2 == 0 })

    /** The frames for which a cascade asks both models. */
    val both: Stages? get() = escalated?.let { Stages(samples.filterIndexed { i, _ -> i % 2 == 1 }) }

    /** What a picture takes: the median; of a cascade the average over images, as in `benchmarks.measure.turns`. */
    fun typicalMs(stage: (Stages) -> Percentiles): Double {
        val (one, two) = stage(sure).p50 to both?.let { stage(it).p50 }
        return if (escalated == null || two == null) one else one + escalated * (two - one)
    }
}

/** The latencies of frames of one kind, by stage. */
class Stages(samples: List<Latency>) {
    val resize = Percentiles.of(samples.map { it.resizeMs })
    val invoke = Percentiles.of(samples.map { it.invokeMs })
    val head = Percentiles.of(samples.map { it.headMs })
    val total = Percentiles.of(samples.map { it.totalMs })
}

/** Median, 90th and 99th percentile (nearest rank) and smallest value, in milliseconds. */
data class Percentiles(val p50: Double, val p90: Double, val p99: Double, val min: Double) {
    companion object {
        /** Percentiles of at least one value. */
        fun of(values: List<Double>): Percentiles {
            val sorted = values.sorted()
            fun rank(share: Double) = sorted[maxOf(ceil(share * sorted.size).toInt() - 1, 0)]
            return Percentiles(rank(0.5), rank(0.9), rank(0.99), sorted.first())
        }
    }
}

/** Time [model] on one picture, [runs] times each turn; stops between them with null when [cancelled] says so. */
fun benchmark(
    model: Model,
    image: RgbImage,
    initMs: Double,
    runs: Int = 30,
    warmUp: Int = 3,
    cancelled: () -> Boolean = { false },
): Benchmark? {
    require(runs >= 1 && warmUp >= 1) { "A benchmark needs a run and a warm-up. Received: $runs, $warmUp." }
    val all = ArrayList<List<Latency>>(warmUp + runs)
    repeat(warmUp + runs) {
        if (cancelled()) return null
        all += model.turns(image)
    }
    return Benchmark(initMs, all.first().first().totalMs, all.drop(warmUp).flatten(), model.escalated)
}

/** Which device measured; null where the system does not tell. [executed]: what the interpreter ran. */
data class Device(
    val processor: String,
    val architecture: String,
    val system: String,
    val cores: Int,
    val memoryBytes: Long?,
    val temperatureC: Double?,
    val threads: Int,
    val executed: Map<String, Any?>,
    val created: String,
)

/**
 * A run file as `sonoedge benchmark --device-run` writes it, for `sonoedge report` to merge (schema version 2 of
 * `benchmarks.records.runfile`); the self-tests are kept in its provenance. [artifact]: see [Model.artifact].
 */
fun runJson(bundle: Bundle, artifact: Artifact, device: Device, result: Benchmark, selfTests: List<SelfTest>): String {
    val thermal = linkedMapOf("temperature_c" to device.temperatureC, "clock_mhz" to null, "throttled" to null)
    return writeJson(
        linkedMapOf(
            "schema_version" to 2,
            "kind" to "sonoedge-benchmark-run",
            "intended_use" to bundle.intendedUse,
            "created" to device.created,
            "bundle" to bundle.name,
            "bundle_digest" to bundle.digest.take(16),
            "machine" to linkedMapOf(
                "processor" to device.processor,
                "architecture" to device.architecture,
                "system" to device.system,
                "python" to "none",
                "cores" to device.cores,
                "memory_bytes" to device.memoryBytes,
                "governor" to null,
                "versions" to device.executed["interpreter"]?.let { mapOf("interpreter" to it) }.orEmpty(),
            ),
            "protocol" to linkedMapOf(
                "mode" to "android",
                "min_queries" to result.samples.size,
                "min_seconds" to 0.0,
                "rounds" to 1,
                "threads" to device.threads,
                "interleaved" to false,
            ),
            "thermal_before" to thermal,
            "thermal_after" to thermal,
            "invalid" to null,
            "data" to null,
            "reference" to null,
            "heatmap_reference" to null,
            "candidates" to listOf(candidate(bundle, artifact, device, result)),
            "gallery" to emptyList<Any>(),
            "ladders" to emptyMap<String, Any>(),
            "provenance" to mapOf("self_tests" to selfTests.map { it.toJson() }),
        ),
    ) + "\n"
}

private fun candidate(bundle: Bundle, artifact: Artifact, device: Device, result: Benchmark) = linkedMapOf(
    "name" to artifact.name,
    "kind" to "artifact",
    "of" to null,
    "runtime" to artifact.runtime,
    "precision" to artifact.precision,
    "note" to bundle.cascade?.takeIf { result.escalated != null }?.let {
        "${bundle.first?.name} ${it.firstArtifact} first, ${it.fullArtifact} where that is not sure"
    }.orEmpty(),
    "size_bytes" to artifact.sizeBytes,
    "threshold" to artifact.threshold,
    "error" to null,
    "executed" to device.executed,
    "init_ms" to result.initMs,
    "first_ms" to result.firstMs,
    "base_bytes" to null,
    "peak_bytes" to null,
    "timing" to linkedMapOf(
        "threads" to device.threads,
        "samples_ms" to result.samples.map { it.totalMs },
        "round_sizes" to listOf(result.samples.size),
    ),
    "thread_sweep" to emptyList<Any>(),
    "stages_ms" to linkedMapOf(
        "resize" to result.typicalMs { it.resize },
        "invoke" to result.typicalMs { it.invoke },
        "head" to result.typicalMs { it.head },
    ),
    "logits" to null,
    "heatmap_cosine" to null,
    "macs" to null,
    "int8_macs" to null,
    "escalated" to result.escalated,
)

private fun SelfTest.toJson(): Map<String, Any?> = linkedMapOf(
    "artifact" to artifact,
    "passed" to passed,
    "images" to images,
    "flips" to flips,
    "replay_error" to replayError.takeIf(Double::isFinite),
    "reference_error" to referenceError.takeIf(Double::isFinite),
    "cam_error" to camError.takeIf(Double::isFinite),
    "tolerance" to tolerance,
)
