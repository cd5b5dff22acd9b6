package org.sonoedge.app

import org.sonoedge.core.Artifact
import org.sonoedge.core.Bundle
import org.sonoedge.core.Classifier
import org.sonoedge.core.ModelException
import org.sonoedge.core.ModelRunner
import org.sonoedge.core.ms
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.TensorFlowLite
import org.tensorflow.lite.nnapi.NnApiDelegate
import java.io.File

/** What runs the backbone. The head is a few small matrix products and always runs on one CPU thread. */
enum class Accelerator(val title: String) {
    CPU("CPU"),
    NNAPI("NNAPI (vendor driver)"),
    GPU("GPU"),
}

/** @property artifact null: the bundle's first one that a phone can run. */
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

/** An open classifier, how it runs, and how long opening took. */
class Opened(val classifier: Classifier, val executed: Executed, val initMs: Double, private val delegate: Delegate?) :
    AutoCloseable {
    override fun close() {
        classifier.close()
        delegate?.close()
    }
}

/**
 * Open an artifact; where the accelerator refuses, on the CPU, with the reason.
 *
 * @throws ModelException no artifact that a phone can run, or the CPU refuses too.
 * @throws org.sonoedge.core.BundleException the files are not what bundle.json says.
 */
fun openClassifier(bundle: Bundle, settings: Settings): Opened {
    val start = System.nanoTime()
    val artifact = chooseArtifact(bundle, settings.artifact)
    val file = File(bundle.folder, artifact.backbone)
    val (backbone, delegate, executed) = openBackbone(file, settings)
    val head = try {
        TfliteRunner(File(bundle.folder, artifact.head), threads = 1)
    } catch (error: ModelException) {
        backbone.close()
        delegate?.close()
        throw error
    }
    return Opened(Classifier(bundle, artifact, backbone, head), executed, ms(start, System.nanoTime()), delegate)
}

/** The artifact of that name, or the first one that a phone can run. */
fun chooseArtifact(bundle: Bundle, name: String?): Artifact =
    bundle.runnable.firstOrNull { it.name == name } ?: bundle.runnable.firstOrNull() ?: throw ModelException(
        "The bundle has no file for a phone. It has: ${bundle.artifacts.joinToString { it.name }}. " +
            "Export it again with --format tflite-int8.",
    )

private fun openBackbone(file: File, settings: Settings): Triple<ModelRunner, Delegate?, Executed> {
    var reason: String? = null
    if (settings.accelerator != Accelerator.CPU) {
        var delegate: Delegate? = null
        try {
            delegate = delegateFor(settings.accelerator)
            val runner = TfliteRunner(file, settings.threads, delegate)
            return Triple(runner, delegate, Executed(settings.accelerator, settings.threads, null))
        } catch (error: ModelException) {
            delegate?.close()
            reason = error.message
        }
    }
    val runner = TfliteRunner(file, settings.threads)
    return Triple(runner, null, Executed(Accelerator.CPU, settings.threads, reason))
}

/** Without the system's library the delegate would take no part of the model and say nothing. */
private fun requireNnApi() = try {
    System.loadLibrary("neuralnetworks")
} catch (error: UnsatisfiedLinkError) {
    throw ModelException("this device has no NNAPI library.", error)
}

private fun delegateFor(accelerator: Accelerator): Delegate = try {
    when (accelerator) {
        Accelerator.NNAPI -> {
            requireNnApi()
            NnApiDelegate()
        }
        // Not part of this build: an app that adds the GPU library finds it here by name.
        else -> Class.forName("org.tensorflow.lite.gpu.GpuDelegate").getDeclaredConstructor().newInstance() as Delegate
    }
} catch (error: ClassNotFoundException) {
    throw ModelException("this build holds no GPU library (see the README for how to add it).", error)
} catch (error: ReflectiveOperationException) {
    throw ModelException("${error.cause?.message ?: error.message}", error)
} catch (error: LinkageError) {
    throw ModelException("its library cannot be loaded: ${error.message}", error)
} catch (error: RuntimeException) {
    throw ModelException("${error.message}", error)
}
