package org.sonoedge.app

import org.sonoedge.core.Artifact
import org.sonoedge.core.Bundle
import org.sonoedge.core.CASCADE
import org.sonoedge.core.Cascade
import org.sonoedge.core.Classifier
import org.sonoedge.core.DemoException
import org.sonoedge.core.Model
import org.sonoedge.core.ModelException
import org.sonoedge.core.ModelRunner
import org.sonoedge.core.ms
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.TensorFlowLite
import java.io.File

/** What runs the backbone. The head is a few small matrix products and always runs on one CPU thread. */
enum class Accelerator(val title: String) {
    CPU("CPU"),
    GPU("GPU"),
}

/** @property artifact null: the bundle's default, see [Bundle.choice]. */
data class Settings(val artifact: String?, val threads: Int, val accelerator: Accelerator)

/** What is executed in the end; [fallback] says why it is not what was asked for. */
data class Executed(val accelerator: Accelerator, val threads: Int, val fallback: String?) {
    fun toJson(): Map<String, Any?> = linkedMapOf(
        "interpreter" to "tensorflow-lite ${TensorFlowLite.runtimeVersion()}",
        "threads" to threads,
        "accelerator" to accelerator.name,
        "fallback" to fallback,
    )
}

/** An open model, how it runs, and how long opening took. */
class Opened(val model: Model, val executed: Executed, val initMs: Double, private val delegates: List<Delegate>) :
    AutoCloseable {
    override fun close() {
        model.close()
        delegates.forEach { it.close() }
    }
}

/**
 * Open what the settings name; where the accelerator refuses, on the CPU, with the reason. Both models of a cascade run
 * on the same.
 *
 * @throws ModelException nothing that a phone can run, or the CPU refuses too.
 * @throws org.sonoedge.core.BundleException the files are not what bundle.json says.
 */
fun openModel(bundle: Bundle, settings: Settings): Opened {
    val start = System.nanoTime()
    val chosen = chooseArtifact(bundle, settings.artifact)
    fun opened(accelerator: Accelerator, fallback: String?): Opened {
        val (model, delegates) = open(bundle, chosen, settings.threads, accelerator)
        return Opened(model, Executed(accelerator, settings.threads, fallback), ms(start, System.nanoTime()), delegates)
    }
    if (settings.accelerator == Accelerator.CPU) return opened(Accelerator.CPU, null)
    return try {
        opened(settings.accelerator, null)
    } catch (error: ModelException) {
        opened(Accelerator.CPU, error.message)
    }
}

/** [Bundle.choice], or in words why there is none. */
fun chooseArtifact(bundle: Bundle, name: String?): Artifact = bundle.choice(name) ?: throw ModelException(
    "The bundle has no file for a phone. It has: ${bundle.artifacts.joinToString { it.name }}. " +
        "Export it again with --format tflite-int8.",
)

private fun open(
    bundle: Bundle, chosen: Artifact, threads: Int, accelerator: Accelerator,
): Pair<Model, List<Delegate>> {
    val firstBundle = bundle.first
    if (chosen.name != CASCADE || firstBundle == null) {
        val (model, delegate) = openFile(bundle, chosen, threads, accelerator)
        return model to listOfNotNull(delegate)
    }
    val parts = bundle.cascadeArtifacts
    if (parts.any { it.runtime != "tflite" }) {
        throw ModelException(
            "The cascade is of ${parts.joinToString(" and ") { "${it.name} (${it.runtime})" }}; a phone runs tflite. " +
                "Make it of such files (sonoedge cascade --first-artifact, --full-artifact), or choose a file in the " +
                "settings.",
        )
    }
    val files = ArrayList<Pair<Classifier, Delegate?>>()
    try {
        files += openFile(firstBundle, parts[0], threads, accelerator)
        files += openFile(bundle, parts[1], threads, accelerator)
        return Cascade(files[0].first, files[1].first) to files.mapNotNull { it.second }
    } catch (error: DemoException) {
        for ((model, delegate) in files) {
            model.close()
            delegate?.close()
        }
        throw error
    }
}

private fun openFile(
    bundle: Bundle, artifact: Artifact, threads: Int, accelerator: Accelerator,
): Pair<Classifier, Delegate?> {
    val delegate = if (accelerator == Accelerator.CPU) null else gpuDelegate()
    var backbone: ModelRunner? = null
    try {
        backbone = TfliteRunner(File(bundle.folder, artifact.backbone), threads, delegate)
        val head = TfliteRunner(File(bundle.folder, artifact.head), threads = 1)
        return Classifier(bundle, artifact, backbone, head) to delegate
    } catch (error: DemoException) {
        backbone?.close()
        delegate?.close()
        throw error
    }
}

/** Not part of this build: an app that adds the GPU library finds it here by name. */
private fun gpuDelegate(): Delegate = try {
    Class.forName("org.tensorflow.lite.gpu.GpuDelegate").getDeclaredConstructor().newInstance() as Delegate
} catch (error: ClassNotFoundException) {
    throw ModelException("this build holds no GPU library (see the README for how to add it).", error)
} catch (error: ReflectiveOperationException) {
    throw ModelException("${error.cause?.message ?: error.message}", error)
} catch (error: LinkageError) {
    throw ModelException("its library cannot be loaded: ${error.message}", error)
} catch (error: RuntimeException) {
    throw ModelException("${error.message}", error)
}
