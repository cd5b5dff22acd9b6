package org.sonoedge.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64

/** tests/vectors of the repository: what edge_runtime (Python) computes. Written by scripts/write_vectors.py. */
object Vectors {
    val folder = File(System.getProperty("vectors") ?: error("run through ./check, or with -Dvectors=…/tests/vectors"))
    val bundle = File(folder, "bundle")
    val cascade = File(folder, "cascade")
    val oldCascade = File(folder, "schema-1/cascade")

    /** The cases of a file; [heat] has an object at its top. */
    @Suppress("UNCHECKED_CAST")
    fun cases(name: String): List<Map<String, Any?>> = JsonReader.read(File(folder, "$name.json").readText()) as List<Map<String, Any?>>

    fun heat(): Map<*, *> = JsonReader.read(File(folder, "heat.json").readText()) as Map<*, *>
}

fun Map<*, *>.map(key: String): Map<*, *> = item(key)
fun Map<*, *>.int(key: String): Int = (this[key] as Long).toInt()
fun Map<*, *>.double(key: String): Double = (this[key] as Number).toDouble()
fun Map<*, *>.ints(key: String): List<Int> = (this[key] as List<*>).map { (it as Long).toInt() }

@Suppress("UNCHECKED_CAST")
fun <T> Map<*, *>.item(key: String): T = (this as Map<String, T>).getOrElse(key) { error("no $key in $keys") }

/** Arrays of the vector files. */
val Map<*, *>.shape: List<Int> get() = ints("shape")
private val Map<*, *>.data: ByteBuffer
    get() = ByteBuffer.wrap(Base64.getDecoder().decode(this["data"] as String)).order(ByteOrder.LITTLE_ENDIAN)

fun Map<*, *>.bytes(): ByteArray = data.array()
fun Map<*, *>.floats(): FloatArray = data.asFloatBuffer().let { b -> FloatArray(b.remaining()) { b.get(it) } }
fun Map<*, *>.doubles(): DoubleArray = data.asDoubleBuffer().let { b -> DoubleArray(b.remaining()) { b.get(it) } }
fun Map<*, *>.picture(): RgbImage = RgbImage(shape[1], shape[0], bytes())

/** Answers with fixed outputs; remembers what it was asked and whether it was closed. */
class Recorded(
    private val inputs: Map<String, List<Int>>, private val outputs: Map<String, List<Int>>,
    private val answers: Iterator<Map<String, FloatArray>>,
) : ModelRunner {
    val asked = ArrayList<Map<String, FloatArray>>()
    var closed = false
    override fun inputShapes() = inputs
    override fun outputShapes() = outputs
    override fun run(inputs: Map<String, FloatArray>) = answers.next().also { asked += inputs }
    override fun close() { closed = true }
}

/** Its picture `drawn`: [kind, height, width, seed]. */
fun drawn(picture: List<*>): RgbImage {
    val kind = picture[0] as String
    val (height, width, seed) = picture.drop(1).map { (it as Long).toInt() }
    if (kind == "noise") return noise(height, width, seed)
    val (one, two) = noise(height, width, seed).rgb to noise(height, width, seed + 1).rgb
    return RgbImage(
        width, height,
        ByteArray(3 * height * width) { i ->
            val (x, y) = i / 3 % width to i / 3 / width
            val distance = Math.abs(x - width / 2) * 32 / width + Math.abs(y - height / 2) * 32 / height
            when (kind) {
                "flat" -> seed.toByte()
                "board" -> ((x / seed + y / seed) % 2 * 255).toByte()
                "ramp" -> (2 * (if (seed % 2 == 1) 3 else 1) * distance).toByte()
                "grey" -> one[i / 3 * 3 + 1]
                else -> (if (y < height / 2) one else two)[i / 3 * 3 + 1]
            }
        },
    )
}

/** The generated picture of scripts/vectors/generated.py. */
fun noise(height: Int, width: Int, seed: Int): RgbImage {
    val rgb = ByteArray(3 * height * width) { i ->
        val grain = ((i + seed).toLong() * 2654435761L and 0xFFFFFFFFL) shr 26
        val x = i / 3 % width
        val y = i / 3 / width
        val ramp = (if (seed % 2 == 1) 3 else 1) * (Math.abs(x - width / 2) * 32 / width + Math.abs(y - height / 2) * 32 / height)
        (grain + ramp).toByte()
    }
    return RgbImage(width, height, rgb)
}
