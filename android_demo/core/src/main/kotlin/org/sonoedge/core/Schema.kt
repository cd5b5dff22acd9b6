package org.sonoedge.core

import java.io.File

/** The keys of bundle.json in schema version 2. */
internal val SCHEMA_2_KEYS = setOf(
    "schema_version", "name", "labels", "decision", "reasons", "input", "branches", "artifacts", "gate", "lesion_map",
    "site_overlay", CASCADE, "provenance", "intended_use",
)
private val SCHEMA_1_KEYS = setOf(
    "schema_version", "name", "labels", "positive_label", "input", "branches", "artifacts", "provenance", "intended_use",
)
private val REASONS = listOf("outside_training", "unlike_training", "not_b_mode", "shifted_view")
private val SITE_VALUES = listOf("temperature", "threshold")
private val DTYPES = mapOf("input_dtype" to "float32", "output_dtype" to "float32")

/** A manifest of schema version 1 in version 2, as `edge_runtime/bundle/schema_1.py`. */
internal fun asSchema2(body: Map<*, *>, gate: Boolean): Map<*, *> {
    val top = Record(body.filterKeys { it != CASCADE }, MANIFEST, SCHEMA_1_KEYS)
    val artifacts = top.list("artifacts").mapIndexed { i, item -> asSchema2Artifact(item, "artifacts[$i]") }
    return body.filterKeys { it != "positive_label" } + mapOf(
        "decision" to mapOf("rule" to "threshold", "label" to top.string("positive_label")),
        "reasons" to REASONS,
        "artifacts" to artifacts,
        "gate" to if (gate) GATE_FILE else null,
        "lesion_map" to null,
        "site_overlay" to SITE_VALUES,
        CASCADE to body[CASCADE],
    )
}

private fun asSchema2Artifact(item: Any?, where: String): Any? {
    if (item !is Map<*, *>) return item
    val unknown = DTYPES.keys.filter { it in item.keys }
    if (unknown.isNotEmpty()) throw BundleException("$where has unknown keys: ${unknown.joinToString()}.")
    return item + DTYPES
}

/** The class that the threshold is for. */
internal fun positiveLabel(body: Any?, labels: List<String>): String {
    val decision = Record(body, "decision", setOf("rule", "label"))
    if (decision.string("rule") != "threshold") {
        throw BundleException("This version decides by a threshold, not by '${decision.string("rule")}'. Update the app.")
    }
    val label = decision.string("label")
    if (label !in labels) throw BundleException("decision.label '$label' is not among the labels $labels.")
    return label
}

/** Fields of schema 2 that this version does not fill: it reads the one value that it runs. */
internal fun checkReserved(top: Record, folder: File) {
    if (top.list("reasons") != REASONS) {
        throw BundleException("reasons must be $REASONS for this version. Received: ${top.list("reasons")}.")
    }
    if (!top.isNull("lesion_map")) {
        throw BundleException("This version draws no lesion maps: lesion_map must be null. Update the app.")
    }
    val overlay = top.list("site_overlay")
    if (SITE_VALUES.filter { it in overlay } != overlay) {
        throw BundleException("site_overlay must be some of $SITE_VALUES. Received: $overlay.")
    }
    val gate = top.stringOrNull("gate")
    if (gate != null && gate != GATE_FILE) throw BundleException("gate must be '$GATE_FILE' or null. Received: '$gate'.")
    val exists = File(folder, GATE_FILE).exists()
    if (gate != null && !exists) throw BundleException("$MANIFEST names $GATE_FILE, which the bundle does not hold.")
    if (gate == null && exists) throw BundleException("The bundle holds $GATE_FILE, which $MANIFEST does not name.")
}
