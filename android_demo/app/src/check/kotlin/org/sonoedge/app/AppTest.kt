package org.sonoedge.app

import android.Manifest
import android.content.Intent
import android.graphics.Bitmap
import android.view.View
import android.widget.Spinner
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.sonoedge.core.loadBundle
import java.io.File

/** The app as a person uses it, with a real bundle and the real interpreter. */
@RunWith(RobolectricTestRunner::class)
class AppTest {
    @Test
    fun `a picture is classified and explained`() {
        installBundle()
        RunningApp().use { app ->
            assertEquals(RuntimeEnvironment.getApplication().getString(R.string.no_picture), app.words(R.id.picture_note))
            app.openPicture(png(phantom()))
            val answer = app.state.prediction!!
            assertTrue(app.words(R.id.result)!!.startsWith(answer.label))
            assertEquals(app.state.answer!!.assessment.text, app.words(R.id.verdict))
            assertTrue(app.words(R.id.gate)!!.startsWith("This bundle has no gate"))
            assertTrue(app.words(R.id.band_text)!!.contains("decision at 50.0 %"))
            assertTrue(app.words(R.id.latency)!!.contains("backbone"))
            assertTrue(app.words(R.id.shares)!!.contains("bias"))
            assertTrue(app.words(R.id.identity)!!.contains(app.state.bundle!!.digest.take(12)))
            assertNull(app.words(R.id.error))
            assertFalse(app.state.shown!!.rgb.contentEquals(app.state.picture!!.image.rgb))
            assertColourful(app.photograph("result"))
        }
    }

    @Test
    fun `the heat map follows class and branch`() {
        installBundle()
        RunningApp().use { app ->
            app.openPicture(png(phantom()))
            val views = LinkedHashMap<String, List<Byte>>()
            for ((classAt, mapAt) in listOf(0 to 0, 1 to 0, 1 to 1, 1 to 2)) {
                app.activity.findViewById<Spinner>(R.id.explain_class).setSelection(classAt)
                app.settle()
                app.activity.findViewById<Spinner>(R.id.explain_map).setSelection(mapAt)
                app.settle()
                views["$classAt $mapAt"] = app.state.shown!!.rgb.toList()
            }
            assertEquals(4, views.values.toSet().size)
            app.activity.findViewById<Spinner>(R.id.explain_map).setSelection(3)
            app.settle()
            assertEquals(app.state.picture!!.image.rgb.toList(), app.state.shown!!.rgb.toList())
        }
    }

    @Test
    fun `a refused picture shows no probability and no heat map`() {
        installBundle(gated = true)
        RunningApp().use { app ->
            app.activity.model.setSettings(Settings("tflite-fp32", 1, Accelerator.CPU))
            app.settle()
            val cases = Vectors.verdicts("bundle").filter { it["artifact"] == "tflite-fp32" }
            assertEquals(4, cases.map { it["verdict"] }.toSet().size)
            // Ends with a refused one.
            for (case in cases.sortedBy { it["verdict"] == "refused" }) {
                app.openPicture(png(drawn(case["picture"] as List<*>)))
                assertEquals(case["text"], app.words(R.id.verdict))
                assertTrue(app.words(R.id.gate)!!.startsWith("Distance from the training images"))
                val refused = case["verdict"] == "refused"
                assertEquals(refused, app.state.prediction == null)
                for (id in listOf(R.id.result, R.id.band_text, R.id.shares, R.id.latency)) {
                    assertEquals("$case", refused, app.words(id) == null)
                }
                for (id in listOf(R.id.band, R.id.explain_row, R.id.explain_title)) {
                    assertEquals(refused, app.activity.findViewById<View>(id).visibility == View.GONE)
                }
                val covered = !app.state.shown!!.rgb.contentEquals(app.state.picture!!.image.rgb)
                if (refused) assertFalse(covered)
            }
            app.activity.model.explain("benign", MapChoice.Fused)
            app.settle()
            assertTrue(app.state.shown!!.rgb.contentEquals(app.state.picture!!.image.rgb))
            app.photograph("refused")
            // The golden pictures, generated too, are outside the gate.
            app.click(R.id.tab_self_test)
            app.click(R.id.run_self_test)
            assertEquals("PASS", app.words(R.id.self_test_verdict))
        }
    }

    @Test
    fun `what speaks against a picture is told`() {
        installBundle()
        RunningApp().use { app ->
            app.openPicture(png(drawn(listOf("flat", 130L, 140L, 7L))))
            assertTrue(app.words(R.id.verdict)!!.startsWith("Uncertain"))
            assertTrue(app.words(R.id.hints)!!.startsWith("Too dark"))
            assertEquals(3, app.words(R.id.hints)!!.lines().size)
            assertNotNull(app.words(R.id.result))
        }
    }

    @Test
    fun `without a bundle the app says how to get one`() {
        RunningApp().use { app ->
            assertTrue(app.words(R.id.error)!!.contains("sonoedge export"))
            app.photograph("no_bundle")
        }
    }

    @Test
    fun `a damaged bundle is told, with the file's name`() {
        installBundle { File(it, "tflite-int8/backbone.tflite").appendText("x") }
        RunningApp().use { app ->
            assertEquals(
                "tflite-int8/backbone.tflite has changed since the bundle was written (SHA-256 differs).",
                app.words(R.id.error),
            )
            assertColourful(app.photograph("error"))
        }
    }

    @Test
    fun `every other damage is told too`() {
        for ((words, damage) in listOf<Pair<String, (File) -> Unit>>(
            "nothing in it can be trusted" to { File(it, "SHA256SUMS").delete() },
            "incomplete" to { File(it, "golden.npz").delete() },
            "is not a bundle" to { File(it, "bundle.json").delete() },
        )) {
            installBundle(change = damage)
            RunningApp().use { app -> assertTrue(app.words(R.id.error)!!.contains(words)) }
        }
    }

    @Test
    fun `a zipped bundle is imported, a damaged one leaves the old one in place`() {
        RunningApp().use { app ->
            app.activity.model.importBundle(offer("bundle", zipOfBundle()))
            app.settle()
            assertEquals("small", app.state.bundle?.name)
            assertNull(app.words(R.id.error))
            val damaged = zipOfBundle().also { it[200] = (it[200].toInt() xor 1).toByte() }
            for (data in listOf(damaged, "no zip".toByteArray(), zipOfBundle().copyOf(3000))) {
                app.activity.model.importBundle(offer("damaged", data))
                app.settle()
                assertNotNull(app.words(R.id.error))
                assertEquals("small", BundleStore(RuntimeEnvironment.getApplication()).load()?.name)
            }
            app.openPicture(png(drawn(listOf("grey", 130L, 140L, 1L))))
            assertNotNull(app.state.prediction)
        }
    }

    @Test
    fun `bad pictures are told and the app goes on`() {
        installBundle()
        RunningApp().use { app ->
            for ((file, words) in listOf("text.png" to "not a picture", "empty.png" to "empty", "huge.png" to "50 million", "truncated.png" to "damaged")) {
                app.openPicture(Vectors.picture(file))
                assertTrue("$file: ${app.words(R.id.error)}", app.words(R.id.error)!!.contains(words))
            }
            for (file in listOf("grey.png", "alpha.png", "palette.png", "exif6.jpg")) {
                app.openPicture(Vectors.picture(file))
                assertNull(app.words(R.id.error))
                assertNotNull(app.words(R.id.result))
            }
            assertTrue(app.words(R.id.picture_note)!!.contains("turned upright"))
        }
    }

    @Test
    fun `the self-test passes, and fails where the device computes something else`() {
        installBundle()
        RunningApp().use { app ->
            app.click(R.id.tab_self_test)
            app.click(R.id.run_self_test)
            assertEquals("PASS", app.words(R.id.self_test_verdict))
            assertTrue(app.words(R.id.self_test_details)!!.contains("on 4 pictures, 0 changed decisions"))
            assertColourful(app.photograph("self_test"))
            app.activity.model.update { copy(selfTests = selfTests.map { it.copy(replayError = Double.NaN) }) }
            assertEquals("FAIL", app.words(R.id.self_test_verdict))
        }
    }

    @Test
    fun `the benchmark writes a run file`() {
        installBundle()
        RunningApp().use { app ->
            app.click(R.id.tab_self_test)
            app.click(R.id.run_self_test)
            app.click(R.id.tab_benchmark)
            app.click(R.id.run_benchmark)
            assertEquals(30, app.state.benchmark!!.samples.size)
            val (uri, out) = sink("run.json")
            app.click(R.id.save_run)
            val asked = shadowOf(app.activity).nextStartedActivityForResult
            assertEquals(Intent.ACTION_CREATE_DOCUMENT, asked.intent.action)
            shadowOf(app.activity).receiveResult(asked.intent, android.app.Activity.RESULT_OK, Intent().setData(uri))
            app.settle()
            assertTrue(app.words(R.id.benchmark_details)!!.contains("Saved: run.json"))
            File(System.getProperty("reports")!!, "run.json").writeBytes(out.toByteArray())
            app.photograph("benchmark")
        }
    }

    @Test
    fun `a cascade answers, says which model decided, and is tested and timed as two`() {
        installBundle(Vectors.cascade)
        RunningApp().use { app ->
            val both = "cascade (first/tflite-int8, where that is not sure tflite-fp32)"
            assertTrue(app.words(R.id.identity)!!.contains(both))
            app.openPicture(png(mixed(64, 60, 4, 32)))
            assertEquals("tflite-fp32", app.state.prediction!!.artifact)
            assertTrue(app.words(R.id.decider)!!.contains("full model, tflite-fp32"))
            // A map that only the full model has does not outlive it.
            app.activity.findViewById<Spinner>(R.id.explain_map).setSelection(2)
            app.settle()
            assertEquals(MapChoice.Branch("branch_1"), app.state.map)
            app.openPicture(png(mixed(64, 60, 0, 0)))
            assertEquals("first/tflite-int8", app.state.prediction!!.artifact)
            assertTrue(app.words(R.id.decider)!!.contains("small model, first/tflite-int8"))
            assertTrue(app.state.logitTolerances.getValue("first/tflite-int8") > 0f)
            assertEquals(MapChoice.Fused, app.state.map)
            assertColourful(app.photograph("cascade"))
            app.click(R.id.tab_self_test)
            app.click(R.id.run_self_test)
            assertEquals("PASS", app.words(R.id.self_test_verdict))
            for (name in listOf("first/tflite-int8", "tflite-fp32")) {
                assertTrue(app.words(R.id.self_test_details)!!.contains("$name on 4 pictures, 0 changed decisions"))
            }
            app.click(R.id.tab_benchmark)
            app.click(R.id.run_benchmark)
            assertEquals(60, app.state.benchmark!!.samples.size)
            assertTrue(app.words(R.id.benchmark_details)!!.contains("asked for 60 % of the pictures"))
            app.photograph("cascade_benchmark")
            val (uri, out) = sink("cascade.json")
            app.activity.model.saveRun(uri)
            app.settle()
            File(System.getProperty("reports")!!, "cascade.json").writeBytes(out.toByteArray())
            // One of the full model's files alone.
            app.click(R.id.tab_settings)
            app.activity.findViewById<Spinner>(R.id.artifact).setSelection(1)
            app.settle()
            assertEquals("tflite-int8", app.state.prediction!!.artifact)
            app.click(R.id.tab_picture)
            assertNull(app.words(R.id.decider))
        }
    }

    @Test
    fun `a zipped cascade is imported whole, one with a damaged model inside is not`() {
        installBundle()
        RunningApp().use { app ->
            val damaged = File(RuntimeEnvironment.getApplication().cacheDir, "damaged")
            Vectors.cascade.copyRecursively(damaged)
            File(damaged, "first/tflite-int8/head.tflite").appendText("x")
            app.activity.model.importBundle(offer("damaged", zipOfBundle(damaged)))
            app.settle()
            assertEquals(
                "first/tflite-int8/head.tflite has changed since the bundle was written (SHA-256 differs).",
                app.words(R.id.error),
            )
            assertNull(BundleStore(RuntimeEnvironment.getApplication()).load()!!.cascade)
            app.activity.model.importBundle(offer("cascade", zipOfBundle(Vectors.cascade)))
            app.settle()
            assertNull(app.words(R.id.error))
            assertEquals("student", BundleStore(RuntimeEnvironment.getApplication()).load()!!.first!!.name)
        }
    }

    @Test
    fun `buttons ask the system for documents, and a refusal changes nothing`() {
        installBundle()
        RunningApp().use { app ->
            for ((button, type) in listOf(R.id.open_picture to "image/*", R.id.open_bundle to "*/*")) {
                app.click(button)
                val asked = shadowOf(app.activity).nextStartedActivityForResult
                assertEquals(Intent.ACTION_OPEN_DOCUMENT to type, asked.intent.action to asked.intent.type)
                val before = app.state
                shadowOf(app.activity).receiveResult(asked.intent, android.app.Activity.RESULT_CANCELED, null)
                app.settle()
                assertSame(before, app.state)
            }
            app.click(R.id.open_picture)
            val asked = shadowOf(app.activity).nextStartedActivityForResult
            val uri = offer("chosen", png(phantom()))
            shadowOf(app.activity).receiveResult(asked.intent, android.app.Activity.RESULT_OK, Intent().setData(uri))
            app.settle()
            assertNotNull(app.state.prediction)
        }
    }

    @Test
    fun `settings change what runs, and are kept`() {
        installBundle()
        RunningApp().use { app ->
            app.openPicture(png(phantom()))
            val first = app.state.prediction!!
            app.click(R.id.tab_settings)
            app.activity.findViewById<Spinner>(R.id.artifact).setSelection(1)
            app.settle()
            assertEquals("tflite-fp32", app.state.prediction!!.artifact)
            assertTrue(app.state.prediction!!.logit != first.logit)
            app.activity.findViewById<Spinner>(R.id.accelerator).setSelection(Accelerator.GPU.ordinal)
            app.settle()
            assertTrue(app.words(R.id.executed)!!.contains("GPU is not used"))
            app.photograph("settings")
        }
        RunningApp().use { assertEquals("tflite-fp32" to Accelerator.GPU, it.state.settings.artifact to it.state.settings.accelerator) }
    }

    @Test
    fun `a turned phone keeps its result, and low memory costs nothing but time`() {
        installBundle()
        RunningApp().use { app ->
            app.openPicture(png(phantom()))
            val (model, answer) = app.activity.model to app.state.prediction
            app.turn()
            assertSame(model, app.activity.model)
            assertSame(answer, app.state.prediction)
            assertNotNull(app.words(R.id.result))
            @Suppress("DEPRECATION")
            app.activity.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_COMPLETE)
            app.openPicture(png(phantom()))
            assertEquals(answer!!.logit, app.state.prediction!!.logit, 0.0)
        }
    }

    @Test
    fun `research use only is on every screen, and the app wants one permission`() {
        installBundle()
        RunningApp().use { app ->
            for (tab in Screens.TABS.keys - R.id.tab_camera) {
                app.click(tab)
                val texts = ArrayList<android.view.View>()
                app.activity.window.decorView.findViewsWithText(
                    texts, RuntimeEnvironment.getApplication().getString(R.string.research_use), android.view.View.FIND_VIEWS_WITH_TEXT,
                )
                assertTrue(texts.single().isShown)
            }
            val info = app.activity.packageManager.getPackageInfo(app.activity.packageName, android.content.pm.PackageManager.GET_PERMISSIONS)
            assertEquals(listOf(Manifest.permission.CAMERA), info.requestedPermissions!!.toList())
        }
    }

    /** Something was drawn: many colours. */
    private fun assertColourful(bitmap: Bitmap) {
        val colours = HashSet<Int>()
        for (y in 0 until bitmap.height step 3) for (x in 0 until bitmap.width step 3) colours += bitmap.getPixel(x, y)
        assertTrue("${colours.size} colours", colours.size > 20)
    }
}
