package org.sonoedge.app

import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Bundle
import android.view.Surface
import android.view.View
import android.widget.Button

/** The only Activity: buttons and system dialogs; [DemoModel] works, [Screens] draws. */
class MainActivity : Activity() {
    lateinit var model: DemoModel
        private set
    private lateinit var screens: Screens
    private var camera: LiveCamera? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        val kept = lastNonConfigurationInstance as DemoModel?
        model = kept ?: DemoModel(this)
        screens = Screens(this, model)
        model.onState = ::show
        wire()
        show(model.state)
        if (kept == null) model.loadBundle()
    }

    override fun onResume() {
        super.onResume()
        // Never asks: the answer of a permission dialog resumes the Activity, and would be followed by the next one.
        if (model.state.screen == Screen.CAMERA && mayUseCamera()) startCamera()
    }

    override fun onPause() {
        stopCamera()
        super.onPause()
    }

    override fun onRetainNonConfigurationInstance(): Any = model

    override fun onDestroy() {
        model.onState = null
        if (isFinishing) model.close()
        super.onDestroy()
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= TRIM_MEMORY_UI_HIDDEN || level == RUNNING_CRITICAL) model.trimMemory()
    }

    @Suppress("OVERRIDE_DEPRECATION") // The newer way needs AndroidX.
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val uri = data?.data
        if (result != RESULT_OK || uri == null) return
        when (request) {
            OPEN_PICTURE -> model.openPicture(uri)
            OPEN_BUNDLE -> model.importBundle(uri)
            SAVE_RUN -> model.saveRun(uri)
        }
    }

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, results: IntArray) {
        if (results.firstOrNull() == PackageManager.PERMISSION_GRANTED) {
            if (model.state.screen == Screen.CAMERA) startCamera()
        } else model.update { copy(error = getString(R.string.camera_denied)) }
    }

    private fun wire() {
        for ((id, screen) in Screens.TABS) click(id) { open(screen) }
        click(R.id.open_picture) { ask(Intent(Intent.ACTION_OPEN_DOCUMENT).setType("image/*"), OPEN_PICTURE) }
        click(R.id.open_bundle) { ask(Intent(Intent.ACTION_OPEN_DOCUMENT).setType("*/*"), OPEN_BUNDLE) }
        click(R.id.freeze) {
            stopCamera()
            model.freeze()
        }
        click(R.id.run_self_test) { model.runSelfTest() }
        click(R.id.run_benchmark) { if (model.state.busy == null) model.runBenchmark() else model.cancelBenchmark() }
        click(R.id.save_run) {
            val intent = Intent(Intent.ACTION_CREATE_DOCUMENT).setType("application/json")
            ask(intent.putExtra(Intent.EXTRA_TITLE, "sonoedge-run.json"), SAVE_RUN)
        }
    }

    private fun open(screen: Screen) {
        model.update { copy(screen = screen, error = error.takeIf { bundle == null }, live = null) }
        when {
            screen != Screen.CAMERA -> stopCamera()
            mayUseCamera() -> startCamera()
            else -> requestPermissions(arrayOf(Manifest.permission.CAMERA), USE_CAMERA)
        }
    }

    private fun mayUseCamera() = checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun startCamera() {
        if (camera != null) return
        @Suppress("DEPRECATION") // Activity.getDisplay needs Android 11.
        val turned = when (windowManager.defaultDisplay.rotation) {
            Surface.ROTATION_90 -> 90
            Surface.ROTATION_180 -> 180
            Surface.ROTATION_270 -> 270
            else -> 0
        }
        camera = LiveCamera(this, turned, model::frame) { words ->
            runOnUiThread { model.update { copy(error = words) } }
        }.also { it.open() }
    }

    private fun stopCamera() {
        camera?.close()
        camera = null
    }

    private fun ask(intent: Intent, request: Int) = try {
        @Suppress("DEPRECATION") // The newer way needs AndroidX.
        startActivityForResult(intent.addCategory(Intent.CATEGORY_OPENABLE), request)
    } catch (_: ActivityNotFoundException) {
        model.update { copy(error = getString(R.string.error_no_app)) }
    }

    private fun show(state: UiState) = screens.show(state)

    private fun click(id: Int, action: () -> Unit) = findViewById<Button>(id).setOnClickListener(View.OnClickListener { action() })

    companion object {
        const val OPEN_PICTURE = 1
        const val OPEN_BUNDLE = 2
        const val SAVE_RUN = 3
        const val USE_CAMERA = 4

        // android.content.ComponentCallbacks2, where newer versions of Android mark it as deprecated.
        private const val TRIM_MEMORY_UI_HIDDEN = 20
        private const val RUNNING_CRITICAL = 15
    }
}
