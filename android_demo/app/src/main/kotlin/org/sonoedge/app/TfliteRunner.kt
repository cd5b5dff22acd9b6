package org.sonoedge.app

import org.sonoedge.core.ModelException
import org.sonoedge.core.ModelRunner
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Delegate
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

/**
 * A `.tflite` file in the LiteRT (TensorFlow Lite) interpreter; its only signature gives the names.
 *
 * @param delegate of the caller, who closes it after this runner; null runs on the CPU, with XNNPACK where the library has it.
 * @throws ModelException the library cannot be loaded, or the interpreter refuses the file.
 */
class TfliteRunner(file: File, threads: Int, delegate: Delegate? = null) : ModelRunner {
    private val interpreter: Interpreter
    private val signature: String
    private val inputs: Map<String, FloatBuffer>
    private val outputs: Map<String, Tensor>
    private val shapes: Map<String, List<Int>>

    init {
        interpreter = orModelException(file.name) {
            val options = Interpreter.Options().setNumThreads(threads).setUseXNNPACK(delegate == null)
            if (delegate != null) options.addDelegate(delegate)
            Interpreter(file, options)
        }
        try {
            signature = interpreter.signatureKeys.singleOrNull()
                ?: throw ModelException("${file.name} must have one signature. It has ${interpreter.signatureKeys.size}.")
            val (ins, outs) = orModelException(file.name) {
                interpreter.allocateTensors()
                val ins = interpreter.getSignatureInputs(signature)
                    .associateWith { interpreter.getInputTensorFromSignature(it, signature) }
                val outs = interpreter.getSignatureOutputs(signature)
                    .associateWith { interpreter.getOutputTensorFromSignature(it, signature) }
                ins to outs
            }
            for ((name, tensor) in ins + outs) {
                if (tensor.dataType() != DataType.FLOAT32) {
                    throw ModelException("${file.name}: $name is ${tensor.dataType()}; this app runs float32 tensors.")
                }
            }
            inputs = ins.mapValues { buffer(it.value) }
            outputs = outs
            shapes = (ins + outs).mapValues { it.value.shape().toList() }
        } catch (error: ModelException) {
            interpreter.close()
            throw error
        }
    }

    override fun inputShapes(): Map<String, List<Int>> = shapes.filterKeys(inputs::containsKey)

    override fun outputShapes(): Map<String, List<Int>> = shapes.filterKeys(outputs::containsKey)

    override fun run(inputs: Map<String, FloatArray>): Map<String, FloatArray> {
        for ((name, buffer) in this.inputs) {
            buffer.rewind()
            buffer.put(inputs.getValue(name))
            buffer.rewind()
        }
        // Read here, tensor by tensor: runSignature fills one buffer only where two outputs are the same tensor, as the
        // map of all branches and that of the only one are.
        orModelException(signature) { interpreter.runSignature(this.inputs, emptyMap(), signature) }
        return outputs.mapValues { (_, tensor) ->
            val buffer = tensor.asReadOnlyBuffer().order(ByteOrder.nativeOrder()).asFloatBuffer()
            FloatArray(buffer.remaining()).also { buffer.get(it) }
        }
    }

    override fun close() = interpreter.close()

    private fun buffer(tensor: Tensor): FloatBuffer =
        ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder()).asFloatBuffer()
}

/** What the interpreter throws, as words for the screen. */
internal inline fun <T> orModelException(name: String, action: () -> T): T = try {
    action()
} catch (error: LinkageError) {
    throw ModelException("The interpreter's library cannot be loaded on this device: ${error.message}", error)
} catch (error: IllegalArgumentException) {
    throw ModelException("$name cannot be run by the interpreter: ${error.message}", error)
} catch (error: IllegalStateException) {
    throw ModelException("$name cannot be run by the interpreter: ${error.message}", error)
}
