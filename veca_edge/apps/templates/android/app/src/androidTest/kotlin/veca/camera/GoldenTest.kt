package veca.camera

import androidx.test.platform.app.InstrumentationRegistry
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.sqrt
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import veca.core.Bundle
import veca.core.Choice
import veca.core.CoreControl
import veca.core.Picture
import veca.core.Prediction
import veca.edge.Pipeline
import veca.edge.VecaModel

/** Replays the golden frames on this phone and compares with what the float32 model answered. */
class GoldenTest {
    private val instrumentation = InstrumentationRegistry.getInstrumentation()
    private val bundle = Bundle.declared

    @Test
    fun everyCoreCountAnswersAsTheModelDid() {
        VecaModel.open(instrumentation.targetContext).use { model ->
            val listed = JSONArray(String(asset("golden.json"), Charsets.UTF_8))
            assertEquals(bundle.variants.size, listed.length())
            for (i in 0 until listed.length()) compare(model, listed.getJSONObject(i))
        }
    }

    @Test
    fun aCameraFrameIsShown() {
        VecaModel.open(instrumentation.targetContext).use { model ->
            val control = CoreControl(bundle.coreCounts)
            val pipeline = Pipeline(model, control)
            pipeline.measure(1)
            control.choose(Choice.Fixed(bundle.coreCounts.max()))
            val frame = Picture(ByteArray(61 * 45 * 3) { (it * 7 % 256).toByte() }, 61, 45)
            for (show in bundle.shows) {
                val shown = pipeline.run(frame, show)
                assertEquals(61 * 45 * 3, shown.painting.rgb.size)
                assertEquals(bundle.coreCounts.max(), shown.coreCount)
                assertTrue(shown.times.model > 0)
            }
        }
    }

    private fun compare(model: VecaModel, golden: JSONObject) {
        val pixels = asset(golden.getString("frames"))
        val frameSize = golden.getInt("width") * golden.getInt("height") * 3
        val patches = golden.getJSONArray("patches").let { all -> List(all.length()) { all.getInt(it) } }
        val outputs = golden.getJSONObject("outputs")
        val alike = mutableMapOf<String, MutableList<Double>>()
        for (frame in 0 until golden.getInt("frameCount")) {
            val bytes = pixels.copyOfRange(frame * frameSize, (frame + 1) * frameSize)
            val prediction = model.run(bytes, golden.getInt("coreCount"))
            for (name in outputs.keys().asSequence().map { it.toString() }) {
                val made = requireNotNull(values(name, prediction)) { "the app gives no '$name'" }
                val expected = floats(asset(outputs.getJSONObject(name).getString("file")))
                val width = outputs.getJSONObject(name).getInt("width")
                val rows = if (name == "dense") patches else listOf(0)
                for ((place, row) in rows.withIndex()) {
                    val at = (frame * rows.size + place) * width
                    val wanted = expected.copyOfRange(at, at + width)
                    val found = made.copyOfRange(row * width, (row + 1) * width)
                    alike.getOrPut(name) { mutableListOf() } += likeness(name, found, wanted)
                }
            }
        }
        assertTrue("nothing was compared", alike.isNotEmpty())
        for ((name, values) in alike) {
            val least = golden.getDouble("minimumCosine")
            assertTrue("$name at ${golden.getInt("coreCount")} cores: ${values.average()}", values.average() >= least)
        }
    }

    private fun values(name: String, prediction: Prediction): FloatArray? = when (name) {
        "cls" -> prediction.cls
        "dense" -> prediction.dense
        "logits" -> prediction.logits
        "depth" -> prediction.depth
        "segmentation" -> prediction.segmentation?.map { it.toFloat() }?.toFloatArray()
        else -> null
    }

    /** The share of equal labels, 1 less the mean relative difference of depth, or the cosine of vectors. */
    private fun likeness(name: String, made: FloatArray, wanted: FloatArray): Double = when (name) {
        "segmentation" -> made.indices.count { made[it] == wanted[it] }.toDouble() / made.size
        "depth" -> 1 - made.indices.map { abs(made[it] - wanted[it]) / max(abs(wanted[it]), 1e-6f) }.average()
        else -> dot(made, wanted) / sqrt(dot(made, made) * dot(wanted, wanted))
    }

    private fun dot(a: FloatArray, b: FloatArray): Double = a.indices.sumOf { a[it].toDouble() * b[it] }

    private fun asset(name: String): ByteArray =
        instrumentation.context.assets.open("golden/$name").use { it.readBytes() }

    private fun floats(bytes: ByteArray): FloatArray {
        val values = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(values.remaining()).also(values::get)
    }
}
