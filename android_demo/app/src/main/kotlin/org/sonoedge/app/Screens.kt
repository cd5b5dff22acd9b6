package org.sonoedge.app

import android.app.Activity
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.ImageView
import android.widget.Spinner
import android.widget.TextView
import org.sonoedge.core.Answer
import org.sonoedge.core.Artifact
import org.sonoedge.core.CASCADE
import org.sonoedge.core.GateResult
import org.sonoedge.core.Prediction
import org.sonoedge.core.RgbImage
import org.sonoedge.core.SelfTest
import org.sonoedge.core.Stages
import org.sonoedge.core.Words

/** Draws a [UiState] into the views; choices go back to the model. */
class Screens(private val activity: Activity, private val model: DemoModel) {
    private var drawn: RgbImage? = null

    fun show(state: UiState) {
        for ((id, screen) in TABS) view<Button>(id).isEnabled = screen != state.screen
        for ((id, screen) in SCREENS) visible(id, screen == state.screen)
        visible(R.id.busy, state.busy != null)
        text(R.id.busy_text, state.busy)
        text(R.id.error, state.error)
        text(R.id.identity, identity(state))
        when (state.screen) {
            Screen.PICTURE -> picture(state)
            Screen.CAMERA -> camera(state)
            Screen.SELF_TEST -> selfTest(state)
            Screen.BENCHMARK -> benchmark(state)
            Screen.SETTINGS -> settings(state)
        }
    }

    private fun picture(state: UiState) {
        draw(R.id.picture, state.shown)
        text(R.id.picture_note, state.picture?.let(::pictureNote) ?: string(R.string.no_picture))
        val answer = state.prediction
        verdict(state.answer, R.id.verdict, R.id.hints)
        text(R.id.gate, state.answer?.let { gate(it.gateResult) })
        result(state, answer, R.id.result, R.id.decider, R.id.band, R.id.latency)
        text(R.id.band_text, answer?.let { bandText(it, state) })
        text(R.id.shares, answer?.let(::shares))
        text(R.id.map_note, answer?.let { mapNote(state) })
        visible(R.id.explain_title, answer?.cam != null)
        visible(R.id.explain_row, answer?.cam != null)
        val bundle = state.bundle ?: return
        if (answer?.cam == null) return
        choose(R.id.explain_class, bundle.labels, bundle.labels.indexOf(state.explainedLabel)) {
            model.explain(bundle.labels[it], model.state.map)
        }
        val maps = listOf(MapChoice.Fused) + answer.branchCams.keys.map(MapChoice::Branch) + MapChoice.None
        choose(R.id.explain_map, maps.map(::title), maps.indexOf(state.map)) {
            model.explain(model.state.explained, maps[it])
        }
    }

    private fun camera(state: UiState) {
        draw(R.id.frame, state.live?.frame)
        verdict(state.live?.answer, R.id.live_verdict, R.id.live_hints)
        result(state, state.live?.answer?.prediction, R.id.live_result, R.id.live_decider, R.id.live_band, R.id.live_latency)
        view<Button>(R.id.freeze).isEnabled = state.live != null
    }

    private fun selfTest(state: UiState) {
        view<Button>(R.id.run_self_test).isEnabled = state.bundle != null && state.busy == null
        val results = state.selfTests
        val passed = results.isNotEmpty() && results.all { it.passed }
        val verdict = string(if (passed) R.string.pass else R.string.fail)
        text(R.id.self_test_verdict, verdict.takeIf { results.isNotEmpty() })
        view<TextView>(R.id.self_test_verdict).setTextColor(if (passed) GREEN else RED)
        text(R.id.self_test_details, results.joinToString("\n\n", transform = ::details))
    }

    private fun details(it: SelfTest): String {
        val lines = listOf(R.string.self_test_replay, R.string.self_test_reference, R.string.self_test_cam)
        val errors = listOf(it.replayError, it.referenceError, it.camError)
        val head = string(R.string.self_test_head, it.artifact, it.images, it.flips)
        return (listOf(head) + lines.indices.map { i -> string(lines[i], short(errors[i]), short(it.tolerance[i])) })
            .joinToString("\n")
    }

    private fun benchmark(state: UiState) {
        val running = state.busy != null
        view<Button>(R.id.run_benchmark).apply {
            isEnabled = state.bundle != null
            text = string(if (running) R.string.cancel else R.string.run_benchmark)
        }
        val result = state.benchmark
        view<Button>(R.id.save_run).isEnabled = result != null && !running
        text(
            R.id.benchmark_details,
            result?.let {
                val both = it.both
                val kinds = if (both == null) rows(it.sure) else
                    listOf(string(R.string.benchmark_sure)) + rows(it.sure) +
                        string(R.string.benchmark_both) + rows(both) +
                        string(R.string.benchmark_average, it.typicalMs(Stages::total), 100 * it.escalated!!)
                val head = string(R.string.benchmark_head, it.samples.size)
                (listOf(head) + kinds + listOfNotNull(state.executed?.let(::executed), state.saved)).joinToString("\n")
            },
        )
    }

    private fun rows(stages: Stages): List<String> = listOf(
        R.string.stage_total to stages.total, R.string.stage_resize to stages.resize,
        R.string.stage_invoke to stages.invoke, R.string.stage_head to stages.head,
    ).map { (name, p) -> string(R.string.benchmark_row, string(name), p.p50, p.p90, p.p99) }

    private fun settings(state: UiState) {
        val now = state.settings
        val artifacts = state.bundle?.choices.orEmpty()
        choose(R.id.artifact, artifacts.map { "${it.name} (${megabytes(it.sizeBytes)})" }, maxOf(artifacts.indexOfFirst { it.name == now.artifact }, 0)) {
            model.setSettings(model.state.settings.copy(artifact = artifacts[it].name))
        }
        val threads = (listOf(1, 2, 4, 8).filter { it <= Runtime.getRuntime().availableProcessors() } + now.threads).distinct().sorted()
        choose(R.id.threads, threads.map { it.toString() }, threads.indexOf(now.threads)) {
            model.setSettings(model.state.settings.copy(threads = threads[it]))
        }
        val accelerators = Accelerator.values()
        choose(R.id.accelerator, accelerators.map { it.title }, now.accelerator.ordinal) {
            model.setSettings(model.state.settings.copy(accelerator = accelerators[it]))
        }
        text(R.id.executed, state.executed?.let(::executed))
    }

    private fun verdict(answer: Answer?, title: Int, hints: Int) {
        text(title, answer?.assessment?.text)
        text(hints, answer?.hints?.joinToString("\n", transform = Words::hint))
    }

    private fun gate(gateResult: GateResult?): String =
        gateResult?.let { string(R.string.gate, it.distance, it.warning, it.threshold) } ?: string(R.string.gate_none)

    /** The model's numbers; of a refused picture there are none. */
    private fun result(state: UiState, answer: Prediction?, title: Int, decider: Int, band: Int, latency: Int) {
        val positive = state.bundle?.positiveLabel
        text(title, answer?.let { string(R.string.result, it.label, positive, 100 * it.probability) })
        text(decider, answer?.let { decider(state, it) })
        visible(band, answer != null)
        if (answer != null) view<BandView>(band).show(answer.probability, band(answer, state), answer.threshold)
        text(
            latency,
            answer?.latency?.let {
                string(R.string.latency, it.totalMs, it.resizeMs, it.invokeMs, it.headMs)
            },
        )
    }

    /** Which of a cascade's models decided. */
    private fun decider(state: UiState, answer: Prediction): String? {
        val spec = state.bundle?.cascade?.takeIf { chosen(state)?.name == CASCADE } ?: return null
        val full = answer.artifact == spec.fullArtifact
        return string(if (full) R.string.decided_full else R.string.decided_first, answer.artifact)
    }

    private fun band(answer: Prediction, state: UiState) = answer.band(state.logitTolerances[answer.artifact] ?: 0f)

    private fun bandText(answer: Prediction, state: UiState): String {
        val band = band(answer, state)
        val text = string(R.string.band, 100 * band.start, 100 * band.endInclusive, 100 * answer.threshold)
        return if (answer.threshold in band) "$text ${string(R.string.band_unsure)}" else text
    }

    private fun shares(answer: Prediction): String? {
        if (answer.shares.isEmpty()) return null
        val parts = answer.shares.entries.joinToString(" ") { (name, share) -> "%+.2f %s".format(share, name) }
        return string(R.string.shares, answer.logit, parts)
    }

    private fun mapNote(state: UiState): String? = when {
        state.prediction?.cam == null -> string(R.string.map_missing)
        state.cam?.values?.any { it > 0f } == false -> string(R.string.map_empty, state.explainedLabel)
        else -> null
    }

    private fun pictureNote(picture: Picture): String = listOfNotNull(
        string(R.string.picture_size, picture.image.width, picture.image.height),
        picture.shrunkFrom?.let { (width, height) -> string(R.string.picture_shrunk, width, height) },
        picture.orientation.takeIf { it > 1 }?.let { string(R.string.picture_turned, it) },
    ).joinToString(", ")

    private fun identity(state: UiState): String? {
        val bundle = state.bundle ?: return null
        val artifact = chosen(state)
        val cascade = bundle.cascade?.takeIf { artifact?.name == CASCADE }
        val what = cascade?.let { string(R.string.cascade_of, "${it.first}/${it.firstArtifact}", it.fullArtifact) }
        return string(
            R.string.identity, bundle.name, artifact?.name.orEmpty(), what ?: artifact?.precision.orEmpty(),
            bundle.digest.take(12),
        )
    }

    private fun chosen(state: UiState): Artifact? = state.bundle?.choice(state.settings.artifact)

    private fun executed(it: Executed): String {
        val text = string(R.string.executed, it.accelerator.title, it.threads)
        return it.fallback?.let { why -> "$text\n${string(R.string.fallback, model.state.settings.accelerator.title, why)}" } ?: text
    }

    private fun title(map: MapChoice): String = when (map) {
        MapChoice.Fused -> string(R.string.map_fused)
        MapChoice.None -> string(R.string.map_none)
        is MapChoice.Branch -> map.name
    }

    private fun draw(id: Int, image: RgbImage?) {
        val target = view<ImageView>(id)
        if (image === drawn && target.drawable != null) return
        drawn = image
        if (image == null) target.setImageDrawable(null) else target.setImageBitmap(image.toBitmap())
    }

    /** Fill a Spinner; [chosen] hears what the person picks, not what is set here. */
    private fun choose(id: Int, names: List<String>, selected: Int, chosen: (Int) -> Unit) {
        val spinner = view<Spinner>(id)
        spinner.onItemSelectedListener = null
        if (spinner.tag != names) {
            spinner.tag = names
            val rows = ArrayAdapter(activity, android.R.layout.simple_spinner_item, names)
            rows.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
            spinner.adapter = rows
        }
        spinner.setSelection(selected, false)
        spinner.onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
            override fun onItemSelected(parent: AdapterView<*>?, row: View?, position: Int, rowId: Long) {
                if (position != selected) chosen(position)
            }

            override fun onNothingSelected(parent: AdapterView<*>?) = Unit
        }
    }

    private fun text(id: Int, text: String?) {
        view<TextView>(id).text = text
        visible(id, !text.isNullOrEmpty())
    }

    private fun visible(id: Int, visible: Boolean) {
        view<View>(id).visibility = if (visible) View.VISIBLE else View.GONE
    }

    private fun string(id: Int, vararg values: Any?): String = activity.getString(id, *values)

    private fun short(value: Double): String = "%.2g".format(value)

    private fun megabytes(bytes: Long): String = "%.1f MB".format(bytes / 1e6)

    private fun <T : View> view(id: Int): T = activity.findViewById(id)

    companion object {
        val TABS = mapOf(
            R.id.tab_picture to Screen.PICTURE, R.id.tab_camera to Screen.CAMERA, R.id.tab_self_test to Screen.SELF_TEST,
            R.id.tab_benchmark to Screen.BENCHMARK, R.id.tab_settings to Screen.SETTINGS,
        )
        private val SCREENS = mapOf(
            R.id.screen_picture to Screen.PICTURE, R.id.screen_camera to Screen.CAMERA,
            R.id.screen_self_test to Screen.SELF_TEST, R.id.screen_benchmark to Screen.BENCHMARK,
            R.id.screen_settings to Screen.SETTINGS,
        )
        private const val GREEN = 0xFF1B7F3B.toInt()
        private const val RED = 0xFF9B1C1C.toInt()
    }
}
