package org.sonoedge.app

import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.Looper
import android.view.View
import android.widget.Button
import android.widget.TextView
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.sonoedge.core.JsonReader
import org.sonoedge.core.MANIFEST
import org.sonoedge.core.RgbImage
import org.sonoedge.core.SUMS
import org.sonoedge.core.sha256
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.Base64
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** tests/vectors of the repository, as in core's tests. */
object Vectors {
    private val folder = File(System.getProperty("vectors")!!)
    val bundle = File(folder, "bundle")
    val cascade = File(folder, "cascade")

    /** Whole answers to [drawn] pictures, of a bundle as it is and for one view. */
    fun verdicts(bundle: String): List<Map<String, Any?>> = cases("verdicts").filter {
        it["bundle"] == bundle && it["gated"] == true && it["views"] == 1L
    }

    @Suppress("UNCHECKED_CAST")
    fun cases(name: String): List<Map<String, Any?>> =
        JsonReader.read(File(folder, "$name.json").readText()) as List<Map<String, Any?>>

    fun picture(name: String): ByteArray = File(folder, "pictures/$name").readBytes()
}

fun Map<*, *>.int(key: String): Int = (this[key] as Long).toInt()
fun Map<*, *>.double(key: String): Double = (this[key] as Number).toDouble()
fun Map<*, *>.ints(key: String): List<Int> = (this[key] as List<*>).map { (it as Long).toInt() }
fun Map<*, *>.map(key: String): Map<*, *> = this[key] as Map<*, *>
fun Map<*, *>.bytes(): ByteArray = Base64.getDecoder().decode(this["data"] as String)

/** The generated picture of scripts/vectors/generated.py. */
fun noise(height: Int, width: Int, seed: Int): RgbImage = RgbImage(
    width, height,
    ByteArray(3 * height * width) { i ->
        val grain = ((i + seed).toLong() * 2654435761L and 0xFFFFFFFFL) shr 26
        val x = i / 3 % width
        val y = i / 3 / width
        (grain + (if (seed % 2 == 1) 3 else 1) * (Math.abs(x - width / 2) * 32 / width + Math.abs(y - height / 2) * 32 / height)).toByte()
    },
)

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

/** Its first [rows] are those of the picture of that seed, the others of the next: neither steep nor flat. */
fun mixed(height: Int, width: Int, seed: Int, rows: Int): RgbImage {
    val rgb = noise(height, width, seed + 1).rgb
    noise(height, width, seed).rgb.copyInto(rgb, endIndex = 3 * width * rows)
    return RgbImage(width, height, rgb)
}

/** The app's own bundle folder, filled with a small bundle, by default without its gate; [change] may damage it. */
fun installBundle(bundle: File = Vectors.bundle, gated: Boolean = false, change: (File) -> Unit = {}) {
    val folder = File(RuntimeEnvironment.getApplication().filesDir, "bundle")
    bundle.copyRecursively(folder, overwrite = true)
    if (!gated) removeGate(folder)
    change(folder)
}

/** Takes the gates out of a bundle, and of the one inside it: then quality and threshold decide. */
fun removeGate(folder: File) {
    for (part in listOf(File(folder, "first"), folder).filter { it.isDirectory }) {
        File(part, "domain.npz").delete()
        File(part, MANIFEST).run { writeText(readText().replace("\"gate\": \"domain.npz\"", "\"gate\": null")) }
        val names = part.walk().filter { it.isFile }.map { it.relativeTo(part).invariantSeparatorsPath }
        val listed = names.filter { it != SUMS }.sorted()
        File(part, SUMS).writeText(listed.joinToString("") { "${sha256(File(part, it))}  $it\n" })
    }
}

/** The app on the screen, after everything it does by itself. */
class RunningApp : AutoCloseable {
    private val controller: ActivityController<MainActivity> = Robolectric.buildActivity(MainActivity::class.java).setup()
    var activity: MainActivity = controller.get()
        private set
    val state: UiState get() = activity.model.state

    init {
        settle()
    }

    fun click(id: Int) {
        activity.findViewById<Button>(id).performClick()
        settle()
    }

    fun words(id: Int): String? =
        activity.findViewById<TextView>(id).takeIf { it.visibility == View.VISIBLE }?.text?.toString()

    fun openPicture(data: ByteArray) {
        activity.model.openPicture(offer("picture", data))
        settle()
    }

    /** Another window, such as a system dialog, comes and goes. */
    fun interrupt() {
        controller.pause().resume()
        settle()
    }

    /** Turn the phone. */
    fun turn() {
        val turned = android.content.res.Configuration(activity.resources.configuration)
        turned.orientation = android.content.res.Configuration.ORIENTATION_LANDSCAPE
        controller.configurationChange(turned)
        activity = controller.get()
        settle()
    }

    /** Wait until the worker is done and the main thread has drawn it. */
    fun settle() {
        val end = System.nanoTime() + 60_000_000_000
        do {
            shadowOf(Looper.getMainLooper()).idle()
            if (state.busy == null) return
            Thread.sleep(5)
        } while (System.nanoTime() < end)
        error("still busy: ${state.busy}")
    }

    /** Wait until the worker's news have made [done] true. */
    fun await(done: RunningApp.() -> Boolean) {
        val end = System.nanoTime() + 60_000_000_000
        while (!done()) {
            check(System.nanoTime() < end) { "It never came: $state" }
            settle()
            Thread.sleep(5)
        }
    }

    /** What a person sees, as build/reports/NAME.png. */
    fun photograph(name: String): Bitmap {
        val view = activity.window.decorView
        val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(bitmap))
        val file = File(System.getProperty("reports")!!, "$name.png")
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
        return bitmap
    }

    override fun close() {
        controller.pause().stop().destroy()
        activity.model.close()
    }
}

/** A document that another app offers. */
fun offer(name: String, data: ByteArray): Uri {
    val uri = Uri.parse("content://other.app/$name")
    val resolver = RuntimeEnvironment.getApplication().contentResolver
    shadowOf(resolver).registerInputStreamSupplier(uri) { ByteArrayInputStream(data) }
    return uri
}

/** A document that another app lets this one write. */
fun sink(name: String): Pair<Uri, ByteArrayOutputStream> {
    val uri = Uri.parse("content://other.app/$name")
    val out = ByteArrayOutputStream()
    shadowOf(RuntimeEnvironment.getApplication().contentResolver).registerOutputStreamSupplier(uri) { out }
    return uri to out
}

fun zipOfBundle(bundle: File = Vectors.bundle): ByteArray {
    val bytes = ByteArrayOutputStream()
    ZipOutputStream(bytes).use { zip ->
        for (file in bundle.walk().filter { it.isFile }) {
            zip.putNextEntry(ZipEntry(file.relativeTo(bundle).invariantSeparatorsPath))
            zip.write(file.readBytes())
        }
    }
    return bytes.toByteArray()
}

/** A PNG of a generated picture. */
fun png(image: RgbImage): ByteArray {
    val bytes = ByteArrayOutputStream()
    image.toBitmap().compress(Bitmap.CompressFormat.PNG, 100, bytes)
    return bytes.toByteArray()
}

/** A sector with speckle and a dark lesion: something to look at on the rendered screens. */
fun phantom(width: Int = 512, height: Int = 400): RgbImage {
    val random = java.util.Random(1)
    val rgb = ByteArray(3 * width * height)
    for (y in 0 until height) for (x in 0 until width) {
        val angle = Math.atan2(x - width / 2.0, y + 60.0)
        val depth = Math.hypot(x - width / 2.0, y + 60.0)
        val lesion = Math.hypot((x - 290.0) / 1.4, y - 170.0) < 52
        val speckle = Math.sqrt(-2 * Math.log(1 - random.nextDouble())) * (if (lesion) 18 else 62)
        val bright = if (Math.abs(angle) < 0.75 && depth > 90 && depth < 440) speckle + 12 * Math.sin(depth / 14) else 0.0
        val at = 3 * (y * width + x)
        for (c in 0..2) rgb[at + c] = bright.coerceIn(0.0, 255.0).toInt().toByte()
    }
    return RgbImage(width, height, rgb)
}
