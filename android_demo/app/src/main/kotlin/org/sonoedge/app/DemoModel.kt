package org.sonoedge.app

import android.content.Context
import android.net.Uri
import android.os.Handler
import android.os.Looper
import org.sonoedge.core.Bundle
import org.sonoedge.core.BundleException
import org.sonoedge.core.DemoException
import org.sonoedge.core.Golden
import org.sonoedge.core.ModelException
import org.sonoedge.core.RgbImage
import org.sonoedge.core.answer
import org.sonoedge.core.benchmark
import org.sonoedge.core.heatMap
import org.sonoedge.core.overlay
import org.sonoedge.core.runJson
import org.sonoedge.core.selfTests
import java.io.IOException
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.ThreadPoolExecutor
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean

/**
 * The app behind the screen: outlives the Activity when the phone is turned.
 *
 * The state changes on the main thread only; files, interpreter and heat maps belong to one worker thread.
 */
class DemoModel(context: Context) {
    private val context = context.applicationContext
    private val store = BundleStore(this.context)
    private val preferences = this.context.getSharedPreferences("settings", Context.MODE_PRIVATE)
    private val main = Handler(Looper.getMainLooper())

    // A frame that the camera delivers after close() is dropped.
    private val worker =
        ThreadPoolExecutor(1, 1, 0, TimeUnit.SECONDS, LinkedBlockingQueue(), ThreadPoolExecutor.DiscardPolicy())
    private val frameInWork = AtomicBoolean(false)
    private val cancelled = AtomicBoolean(false)

    /** The worker's: what is open, and for which settings. */
    private var opened: Opened? = null
    private var openedFor: Pair<Bundle, Settings>? = null
    private var logitTolerances = emptyMap<String, Float>()

    @Volatile
    var state = UiState(settings = readSettings())
        private set

    /** Called on the main thread with every new state. */
    var onState: ((UiState) -> Unit)? = null

    /** Change what needs no work. */
    fun update(change: UiState.() -> UiState) {
        state = state.change()
        onState?.invoke(state)
    }

    /** Look for a bundle and check it. */
    fun loadBundle() = work(R.string.opening_bundle) {
        val bundle = store.load()
        ({ if (bundle == null) copy(error = context.getString(R.string.no_bundle)) else withBundle(bundle) })
    }

    /** Take over a zipped bundle that another app offers. */
    fun importBundle(uri: Uri) = work(R.string.opening_bundle, then = ::classify) {
        val bundle = try {
            val stream = context.contentResolver.openInputStream(uri) ?: throw BundleException("The file cannot be read.")
            closeModel()
            stream.use(store::import)
        } catch (error: IOException) {
            throw BundleException("The bundle cannot be read: ${error.message}.", error)
        } catch (error: SecurityException) {
            throw BundleException("The bundle cannot be read: this app may not open it.", error)
        }
        ({ withBundle(bundle) })
    }

    /** Classify a picture that another app offers. */
    fun openPicture(uri: Uri) = work(R.string.classifying, then = ::classify) {
        val picture = readPicture(context.contentResolver, uri)
        ({ copy(picture = picture, answer = null, shown = picture.image, screen = Screen.PICTURE) })
    }

    /** Keep the camera's last frame as the picture. */
    fun freeze() {
        val live = state.live ?: return
        update { copy(picture = Picture(live.frame), answer = null, shown = live.frame, screen = Screen.PICTURE) }
        classify()
    }

    /** Classify the picture again, for example with other settings. */
    fun classify() {
        val now = state
        val (bundle, picture) = (now.bundle ?: return) to (now.picture ?: return)
        work(R.string.classifying) {
            val open = open(bundle, now.settings)
            val answer = answer(bundle, open.model, picture.image)
            val tolerances = logitTolerances
            // The two models of a cascade have branches of their own.
            val gone = now.map is MapChoice.Branch && now.map.name !in answer.prediction?.branchCams.orEmpty()
            val map = if (gone) MapChoice.Fused else now.map
            val shown = draw(now.copy(answer = answer, map = map))
            ({
                copy(
                    answer = answer, map = map, shown = shown, executed = open.executed, logitTolerances = tolerances,
                )
            })
        }
    }

    /** Draw another map, or the same one for the other class. */
    fun explain(label: String?, map: MapChoice) {
        if (state.explained == label && state.map == map) return
        update { copy(explained = label, map = map) }
        work(R.string.classifying) {
            val shown = draw(state)
            ({ copy(shown = shown) })
        }
    }

    /** Change how the model is run; results of the old settings go. */
    fun setSettings(settings: Settings) {
        if (settings == state.settings) return
        preferences.edit()
            .putString("artifact", settings.artifact)
            .putInt("threads", settings.threads)
            .putString("accelerator", settings.accelerator.name)
            .apply()
        update { copy(settings = settings).withoutResults() }
        classify()
    }

    /** Replay golden.npz, of a cascade both. */
    fun runSelfTest() = work(R.string.opening_bundle) {
        val bundle = state.bundle ?: throw ModelException(context.getString(R.string.no_bundle))
        val open = open(bundle, state.settings)
        val results = selfTests(open.model) { done, all ->
            post { copy(busy = context.getString(R.string.self_test_running, done, all)) }
        }
        ({ copy(selfTests = results, executed = open.executed) })
    }

    /** Time the picture, or without one a generated one; the model is opened anew so that this is timed, too. */
    fun runBenchmark() {
        cancelled.set(false)
        work(R.string.benchmark_running) {
            val bundle = state.bundle ?: throw ModelException(context.getString(R.string.no_bundle))
            closeModel()
            val open = open(bundle, state.settings)
            val image = state.picture?.image ?: Golden.read(bundle).images.first()
            val result = benchmark(open.model, image, open.initMs, cancelled = cancelled::get)
            ({ copy(benchmark = result ?: benchmark, executed = open.executed, saved = null) })
        }
    }

    fun cancelBenchmark() = cancelled.set(true)

    /** Write the run file of the last benchmark, where the person said. */
    fun saveRun(uri: Uri) = work(R.string.save_run) {
        val now = state
        val saved = try {
            val (bundle, result, executed) = Triple(now.bundle!!, now.benchmark!!, now.executed!!)
            val artifact = chooseArtifact(bundle, now.settings.artifact)
            val text = runJson(bundle, artifact, thisDevice(context, executed), result, now.selfTests)
            (context.contentResolver.openOutputStream(uri, "wt") ?: throw IOException("no access")).use {
                it.write(text.toByteArray())
            }
            context.getString(R.string.run_saved, uri.lastPathSegment.orEmpty())
        } catch (error: IOException) {
            context.getString(R.string.run_not_saved, error.message)
        }
        ({ copy(saved = saved) })
    }

    /** A frame of the camera; dropped while the one before is in work. Called on the camera's thread. */
    fun frame(image: RgbImage) {
        if (!frameInWork.compareAndSet(false, true)) return
        worker.execute {
            try {
                val bundle = state.bundle ?: return@execute post { copy(live = null) }
                val open = open(bundle, state.settings)
                val live = Live(image, answer(bundle, open.model, image))
                val tolerances = logitTolerances
                post {
                    if (screen != Screen.CAMERA) this
                    else copy(live = live, executed = open.executed, logitTolerances = tolerances, error = null)
                }
            } catch (error: Exception) {
                frameFailed(error)
            } catch (error: OutOfMemoryError) {
                frameFailed(error)
            } finally {
                frameInWork.set(false)
            }
        }
    }

    /** The answer to an earlier frame must not stand beside the words. */
    private fun frameFailed(error: Throwable) {
        val words = words(error)
        post { if (screen != Screen.CAMERA) this else copy(live = null, error = words) }
    }

    /** Give back what can be opened again. */
    fun trimMemory() = worker.execute(::closeModel)

    /** The Activity is gone for good. */
    fun close() {
        onState = null
        cancelled.set(true)
        worker.execute(::closeModel)
        worker.shutdown()
    }

    private fun UiState.withBundle(bundle: Bundle): UiState =
        copy(bundle = bundle).withoutResults()

    private fun UiState.withoutResults(): UiState =
        copy(answer = null, shown = picture?.image, selfTests = emptyList(), benchmark = null, executed = null)

    private fun draw(now: UiState): RgbImage? {
        val image = now.picture?.image ?: return null
        val cam = now.cam ?: return image
        return overlay(image, heatMap(cam, image.height, image.width))
    }

    private fun open(bundle: Bundle, settings: Settings): Opened {
        val current = opened
        if (current != null && openedFor == bundle to settings) return current
        closeModel()
        return openModel(bundle, settings).also {
            opened = it
            openedFor = bundle to settings
            logitTolerances = it.model.classifiers.mapValues { (_, classifier) ->
                Golden.read(classifier.bundle).tolerance(classifier.artifact)[1].toFloat()
            }
        }
    }

    private fun closeModel() {
        opened?.close()
        opened = null
        openedFor = null
    }

    private fun post(change: UiState.() -> UiState) {
        main.post { update(change) }
    }

    /** Do [job] on the worker; what it returns changes the state, what it throws becomes words; then [then]. */
    private fun work(busy: Int, then: () -> Unit = {}, job: () -> (UiState.() -> UiState)) {
        update { copy(busy = context.getString(busy), error = null) }
        worker.execute {
            var next = then
            fun failed(error: Throwable): UiState.() -> UiState {
                next = {}
                val words = words(error)
                return { copy(error = words) }
            }
            val change = try {
                job()
            } catch (error: Exception) {
                failed(error)
            } catch (error: OutOfMemoryError) {
                failed(error)
            }
            main.post {
                update { change().copy(busy = null) }
                next()
            }
        }
    }

    /** What went wrong, for the screen; on the worker. */
    private fun words(error: Throwable): String = when (error) {
        is DemoException -> error.message
        is OutOfMemoryError -> {
            closeModel()
            context.getString(R.string.error_memory)
        }
        else -> context.getString(R.string.error_unexpected, error.toString())
    }

    private fun readSettings(): Settings {
        val name = preferences.getString("accelerator", null)
        return Settings(
            artifact = preferences.getString("artifact", null),
            threads = preferences.getInt("threads", minOf(4, Runtime.getRuntime().availableProcessors())),
            accelerator = Accelerator.values().firstOrNull { it.name == name } ?: Accelerator.CPU,
        )
    }
}
