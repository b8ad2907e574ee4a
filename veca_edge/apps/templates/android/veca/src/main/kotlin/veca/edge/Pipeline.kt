package veca.edge

import veca.core.Bundle
import veca.core.CoreControl
import veca.core.FramePreparer
import veca.core.Painter
import veca.core.Painting
import veca.core.Picture
import veca.core.Show
import veca.core.Size

/** Milliseconds of the stages of one frame. */
data class StageTimes(val prepare: Double, val model: Double, val paint: Double)

/** One frame with what the model says of it. */
class Shown(val painting: Painting, val size: Size, val coreCount: Int, val times: StageTimes)

/** From a camera's frame to the picture of the task. One call at a time. */
class Pipeline(
    private val model: VecaModel,
    private val control: CoreControl,
    private val bundle: Bundle = Bundle.declared,
) {
    private val preparer = FramePreparer(bundle.preprocessing, bundle.input)
    private val painter = Painter(bundle)

    /** Measures what every core count takes on this phone, so that a budget can be held. */
    fun measure(calls: Int = 5) {
        val frame = ByteArray(bundle.input.width * bundle.input.height * 3)
        val latencies = bundle.coreCounts.associateWith { count ->
            model.run(frame, count) // The first call of a core count prepares it.
            List(calls) { timed { model.run(frame, count) }.second }.min()
        }
        control.expect(latencies)
    }

    fun run(picture: Picture, show: Show): Shown {
        val (frame, prepareMs) = timed { preparer.prepare(picture) }
        val (prediction, modelMs) = timed { model.run(frame, control.coreCount) }
        control.observe(prediction.coreCount, modelMs, System.nanoTime() / 1e9)
        val (painting, paintMs) = timed { painter.paint(picture.rgb(), picture.size, prediction, show) }
        return Shown(painting, picture.size, prediction.coreCount, StageTimes(prepareMs, modelMs, paintMs))
    }

    private inline fun <T> timed(action: () -> T): Pair<T, Double> {
        val start = System.nanoTime()
        val made = action()
        return made to (System.nanoTime() - start) / 1e6
    }
}
