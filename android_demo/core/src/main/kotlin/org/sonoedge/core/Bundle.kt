package org.sonoedge.core

import java.io.File

private val READ_VERSIONS = listOf(1L, 2L)
const val MANIFEST = "bundle.json"
const val GOLDEN = "golden.npz"
const val RESIZE_RULE = "pillow-bilinear-antialiased-stretch"

/** What every backbone expects: float32 (1, [height], [width], 3), RGB, 0–255. */
data class InputSpec(val height: Int, val width: Int)

/** One feature map that a backbone emits: float32 (1, [height], [width], [channels]). */
data class Branch(val name: String, val height: Int, val width: Int, val channels: Int) {
    val shape: List<Int> get() = listOf(1, height, width, channels)
}

/**
 * One format of the model.
 *
 * @property name also its folder: the name of the export format.
 * @property runtime `tflite`, `openvino` or `onnx`; a phone runs `tflite`.
 * @property backbone path inside the bundle, as [head].
 * @property threshold probability from which on an image is called positive, 0–1.
 */
data class Artifact(
    val name: String,
    val runtime: String,
    val precision: String,
    val backbone: String,
    val head: String,
    val sizeBytes: Long,
    val threshold: Double,
)

/**
 * A checked bundle; [artifacts] are in order of preference, [digest] is the SHA-256 of its SHA256SUMS.
 *
 * @property first where there is a [cascade]: the cheap model's bundle, in a folder of this one.
 */
data class Bundle(
    val folder: File,
    val name: String,
    val labels: List<String>,
    val positiveLabel: String,
    val input: InputSpec,
    val branches: List<Branch>,
    val artifacts: List<Artifact>,
    val intendedUse: String,
    val digest: String,
    val cascade: CascadeSpec? = null,
    val first: Bundle? = null,
) {
    /** The other label of a binary classifier. */
    val negativeLabel: String get() = labels.first { it != positiveLabel }

    /** The artifacts that a phone can run. */
    val runnable: List<Artifact> get() = artifacts.filter { it.runtime == "tflite" }

    /** What a person can choose from, the default first: the cascade as if it were one file, then [runnable]. */
    val choices: List<Artifact> get() = listOfNotNull(cascade?.let(::bothAsOne)) + runnable

    /** The choice of that name, else the default; null where a phone can run nothing. */
    fun choice(name: String?): Artifact? = choices.firstOrNull { it.name == name } ?: choices.firstOrNull()

    /** The artifacts of a cascade, the cheap model's first. */
    val cascadeArtifacts: List<Artifact>
        get() = if (cascade == null || first == null) emptyList() else listOf(
            first.artifacts.first { it.name == cascade.firstArtifact },
            artifacts.first { it.name == cascade.fullArtifact },
        )

    private fun bothAsOne(spec: CascadeSpec): Artifact = artifacts.first { it.name == spec.fullArtifact }
        .copy(name = CASCADE, precision = CASCADE, sizeBytes = cascadeArtifacts.sumOf { it.sizeBytes })
}

/**
 * Read and check a bundle, as strictly as `edge_runtime.bundle.contract.load_bundle`, and both bundles where it has a cascade.
 *
 * @param pinnedDigest SHA-256 of SHA256SUMS (64 hexadecimal digits) that this bundle must have; null accepts any.
 * @throws BundleException what is wrong, and in which file.
 */
fun loadBundle(folder: File, pinnedDigest: String? = null): Bundle {
    val bundle = readBundle(folder, pinnedDigest)
    return bundle.copy(first = bundle.cascade?.let { firstBundle(bundle, it) })
}

/** [loadBundle] without a look into the bundle inside. */
internal fun readBundle(folder: File, pinnedDigest: String? = null): Bundle {
    if (!folder.isDirectory) throw BundleException("No such bundle folder: ${folder.name}.")
    val manifest = File(folder, MANIFEST)
    if (!manifest.isFile) throw BundleException("${folder.name} is not a bundle: it holds no $MANIFEST.")
    checkSums(folder)
    val digest = sha256(File(folder, SUMS))
    if (pinnedDigest != null && !pinnedDigest.equals(digest, ignoreCase = true)) {
        throw BundleException(
            "This is not the bundle that the app was built for: its digest is ${digest.take(12)}…, " +
                "expected ${pinnedDigest.take(12)}….",
        )
    }
    val body = try {
        JsonReader.read(decodeUtf8(manifest.readBytes()))
    } catch (error: IllegalArgumentException) {
        throw BundleException("$MANIFEST is not valid JSON: ${error.message}.", error)
    } catch (error: java.nio.charset.CharacterCodingException) {
        throw BundleException("$MANIFEST is not valid JSON: it is not UTF-8 text.", error)
    }
    val bundle = parseManifest(body, folder, digest)
    for (name in bundle.artifacts.flatMap { listOf(it.backbone, it.head) }) {
        if (!File(folder, name).isFile) throw BundleException("$MANIFEST names $name, which the bundle does not hold.")
    }
    return bundle
}

/** Build a [Bundle] from decoded JSON: unknown, missing and wrongly typed keys are refused. */
internal fun parseManifest(body: Any?, folder: File, digest: String): Bundle {
    val version = (body as? Map<*, *>)?.get("schema_version")
    if (version is Long && version !in READ_VERSIONS) {
        throw BundleException(
            "bundle.json has schema_version $version; this version reads ${READ_VERSIONS.joinToString(" and ")}. " +
                "Update the app, or export the bundle again.",
        )
    }
    val manifest = if (version == 1L) asSchema2(body, File(folder, GATE_FILE).exists()) else body
    val top = Record(manifest, MANIFEST, SCHEMA_2_KEYS)
    top.long("schema_version")
    val labels = top.list("labels").map { it as? String ?: "" }
    if (labels.size < 2 || labels.any { it.isEmpty() } || labels.toSet().size != labels.size) {
        throw BundleException("labels must be at least two different names. Received: ${top.list("labels")}.")
    }
    checkReserved(top, folder)
    top.record("provenance")
    val cascade = top.recordOrNull(CASCADE)
    val bundle = Bundle(
        folder = folder,
        name = top.string("name"),
        labels = labels,
        positiveLabel = positiveLabel(top.record("decision"), labels),
        input = parseInput(top.record("input")),
        branches = top.list("branches").mapIndexed { i, item -> parseBranch(item, "branches[$i]") },
        artifacts = top.list("artifacts").mapIndexed { i, item -> parseArtifact(item, "artifacts[$i]") },
        intendedUse = top.string("intended_use"),
        digest = digest,
        cascade = cascade?.let(::parseCascade),
    )
    requireNames("artifact", bundle.artifacts.map { it.name })
    requireNames("branch", bundle.branches.map { it.name })
    val full = bundle.cascade?.fullArtifact
    if (full != null && bundle.artifacts.none { it.name == full }) {
        throw BundleException("cascade.full_artifact '$full' is none of the artifacts.")
    }
    return bundle
}

private fun requireNames(what: String, names: List<String>) {
    if (names.isEmpty() || names.toSet().size != names.size) {
        throw BundleException("bundle.json needs at least one $what, each with a name of its own: $names.")
    }
}

private fun parseInput(body: Any?): InputSpec {
    val spec = Record(body, "input", setOf("height", "width", "channels", "low", "high", "resize"))
    val (height, width) = spec.long("height") to spec.long("width")
    if (minOf(height, width) < 1) throw BundleException("input size must be positive. Received: ${height}x$width.")
    if (maxOf(height, width) > MAX_SIDE) {
        throw BundleException("input size must be at most $MAX_SIDE on this device. Received: ${height}x$width.")
    }
    val rule = listOf(spec.string("channels"), spec.number("low"), spec.number("high"), spec.string("resize"))
    if (rule != listOf("RGB", 0.0, 255.0, RESIZE_RULE)) {
        throw BundleException("This version only runs RGB 0–255 input resized by $RESIZE_RULE. Received: $rule.")
    }
    return InputSpec(height.toInt(), width.toInt())
}

private fun parseBranch(body: Any?, where: String): Branch {
    val item = Record(body, where, setOf("name", "height", "width", "channels"))
    val sizes = listOf("height", "width", "channels").map(item::long)
    if (!NAME.matches(item.string("name")) || sizes.any { it !in 1..MAX_SIDE }) {
        throw BundleException("$where is not a feature map with a name and positive sizes: $body.")
    }
    return Branch(item.string("name"), sizes[0].toInt(), sizes[1].toInt(), sizes[2].toInt())
}

private fun parseArtifact(body: Any?, where: String): Artifact {
    val item = Record(
        body, where,
        setOf(
            "name", "runtime", "precision", "recipe", "backbone", "head", "size_bytes", "threshold", "metrics",
            "input_dtype", "output_dtype",
        ),
    )
    item.record("recipe")
    item.record("metrics")
    val artifact = Artifact(
        name = item.string("name"),
        runtime = item.string("runtime"),
        precision = item.string("precision"),
        backbone = item.string("backbone"),
        head = item.string("head"),
        sizeBytes = item.long("size_bytes"),
        threshold = item.number("threshold"),
    )
    if (!NAME.matches(artifact.name)) {
        throw BundleException("$where.name '${artifact.name}' must be lower-case letters, digits, '.', '_', '-'.")
    }
    if (artifact.runtime !in RUNTIMES) {
        throw BundleException("$where.runtime '${artifact.runtime}' is unknown. Known: ${RUNTIMES.joinToString()}.")
    }
    if (artifact.threshold !in 0.0..1.0) {
        throw BundleException("$where.threshold must be a probability. Received: ${artifact.threshold}.")
    }
    val dtypes = listOf(item.string("input_dtype"), item.string("output_dtype"))
    if (dtypes.any { it != "float32" }) {
        throw BundleException("$where: this version sets and gets float32 only. Received: ${dtypes.joinToString()}.")
    }
    checkPath(artifact.backbone, "$where.backbone")
    checkPath(artifact.head, "$where.head")
    return artifact
}

/** The fields of a JSON object: all of [keys] and no others, each read by its type. */
internal class Record(body: Any?, private val where: String, keys: Set<String>) {
    private val fields: Map<*, *> = body as? Map<*, *> ?: throw BundleException("$where must be a JSON object.")

    init {
        val unknown = fields.keys.map { it as String }.filter { it !in keys }.sorted()
        if (unknown.isNotEmpty()) throw BundleException("$where has unknown keys: ${unknown.joinToString()}.")
        val missing = keys.filter { it !in fields }.sorted()
        if (missing.isNotEmpty()) throw BundleException("$where lacks: ${missing.joinToString()}.")
    }

    fun string(key: String): String = fields[key] as? String ?: wrong(key)
    fun long(key: String): Long = fields[key] as? Long ?: wrong(key)
    fun number(key: String): Double = (fields[key] as? Number ?: wrong(key)).toDouble()
    fun list(key: String): List<*> = fields[key] as? List<*> ?: wrong(key)
    fun record(key: String): Map<*, *> = fields[key] as? Map<*, *> ?: wrong(key)
    fun recordOrNull(key: String): Map<*, *>? = if (fields[key] == null) null else record(key)
    fun stringOrNull(key: String): String? = if (fields[key] == null) null else string(key)
    fun isNull(key: String): Boolean = fields[key] == null
    private fun wrong(key: String): Nothing = throw BundleException("$where.$key has the wrong type.")
}

private const val MAX_SIDE = 4096
private val RUNTIMES = listOf("tflite", "openvino", "onnx")
internal val NAME = Regex("[a-z0-9][a-z0-9._-]*")
