package org.sonoedge.core

import kotlin.math.ceil

/** Single-picture latency in milliseconds over [runs] runs after [warmUp] that are not counted. */
data class Benchmark(val runs: Int, val warmUp: Int, val resize: Percentiles, val invoke: Percentiles, val head: Percentiles, val total: Percentiles)

/** Median, 90th and 99th percentile (nearest rank), mean and smallest value, in milliseconds. */
data class Percentiles(val p50: Double, val p90: Double, val p99: Double, val mean: Double, val min: Double) {
    fun toJson(): Map<String, Double> = mapOf("p50" to p50, "p90" to p90, "p99" to p99, "mean" to mean, "min" to min)

    companion object {
        /** Percentiles of at least one value. */
        fun of(values: List<Double>): Percentiles {
            val sorted = values.sorted()
            fun rank(share: Double) = sorted[maxOf(ceil(share * sorted.size).toInt() - 1, 0)]
            return Percentiles(rank(0.5), rank(0.9), rank(0.99), sorted.average(), sorted.first())
        }
    }
}

/** Time [classifier] on one picture; stops between runs with null when [cancelled] says so. */
fun benchmark(
    classifier: Classifier, image: RgbImage, runs: Int = 30, warmUp: Int = 5, cancelled: () -> Boolean = { false },
): Benchmark? {
    require(runs >= 1) { "A benchmark needs at least one run. Received: $runs." }
    val all = ArrayList<Latency>(runs)
    repeat(warmUp + runs) { i ->
        if (cancelled()) return null
        val latency = classifier.predict(image).latency
        if (i >= warmUp) all += latency
    }
    return Benchmark(
        runs, warmUp,
        resize = Percentiles.of(all.map { it.resizeMs }),
        invoke = Percentiles.of(all.map { it.invokeMs }),
        head = Percentiles.of(all.map { it.headMs }),
        total = Percentiles.of(all.map { it.totalMs }),
    )
}

/** The device JSON: which phone ran which file of which bundle, how fast, and whether its self-test passed. */
fun deviceJson(
    bundle: Bundle, classifier: Classifier, device: Map<String, Any?>, result: Benchmark, selfTest: SelfTest?,
): String = writeJson(
    linkedMapOf(
        "schema_version" to 1,
        "kind" to "sonoedge-device",
        "bundle" to linkedMapOf("name" to bundle.name, "digest" to bundle.digest),
        "artifact" to classifier.artifact.name,
        "device" to device,
        "latency_ms" to linkedMapOf(
            "runs" to result.runs,
            "warm_up" to result.warmUp,
            "resize" to result.resize.toJson(),
            "invoke" to result.invoke.toJson(),
            "head" to result.head.toJson(),
            "total" to result.total.toJson(),
        ),
        "self_test" to selfTest?.let {
            linkedMapOf(
                "passed" to it.passed,
                "images" to it.images,
                "flips" to it.flips,
                "replay_error" to it.replayError.takeIf(Double::isFinite),
                "reference_error" to it.referenceError.takeIf(Double::isFinite),
                "cam_error" to it.camError.takeIf(Double::isFinite),
                "tolerance" to it.tolerance,
            )
        },
    ),
) + "\n"
