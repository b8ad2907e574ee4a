package veca.core

import java.nio.ByteBuffer
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class GoldenVectorsTest {
    @Test
    fun framesGoWhereCalibrationPutThem() {
        val cases = Vectors.cases("geometry")
        assertTrue(cases.isNotEmpty())
        for (case in cases) {
            val how = case.preprocessing()
            val found = FrameGeometry.of(case.size("frame"), case.size("size"), how.resize, how.cropRatio)
            assertEquals(case.toString(), case.box("cut") to case.box("laid"), found.cut to found.laid)
        }
    }

    @Test
    fun pixelsAreThoseOfCalibration() {
        for (case in Vectors.cases("preprocessing")) {
            val rgb = Vectors.bytes(case.getJSONObject("pixels"))
            val size = case.size("frame")
            val preparer = FramePreparer(case.preprocessing(), case.size("size"))
            assertPixels(case, preparer.prepare(Picture(rgb, size.width, size.height)))
            assertPixels(case, preparer.prepare(padded(rgb, size)))
        }
    }

    /** As a camera gives it: RGBA, and rows with something behind them. */
    private fun padded(rgb: ByteArray, size: Size): Picture {
        val rowStride = size.width * 4 + 12
        val bytes = ByteArray(size.height * rowStride - 12) { 0x55 }
        for (i in 0 until size.width * size.height) {
            rgb.copyInto(bytes, i / size.width * rowStride + i % size.width * 4, i * 3, i * 3 + 3)
        }
        return Picture(ByteBuffer.wrap(bytes), size.width, size.height, 4, rowStride)
    }

    @Test
    fun mapsLieOnTheFrame() {
        for (case in Vectors.cases("maps")) {
            val values = case.getJSONObject("values")
            val shape = values.getJSONArray("shape").ints()
            val how = case.preprocessing(Interpolation.BICUBIC) // Here it says how the map's cells are joined.
            val geometry = FrameGeometry.of(case.size("frame"), case.size("size"), how.resize, how.cropRatio)
            val map = FrameMap(geometry, shape[0], shape[1])
            val expected = case.getJSONObject("expected")
            if (values.getString("type") == "f32") {
                val found = map.values(Vectors.floats(values), shape.getOrElse(2) { 1 })
                assertValues(Vectors.floats(expected), found, case.getDouble("tolerance"), case)
            } else {
                assertArrayEquals(case.toString(), Vectors.labels(expected), map.labels(Vectors.labels(values)))
            }
        }
    }

    @Test
    fun masksAreTinted() {
        for (case in Vectors.cases("masks")) {
            val colours = case.getJSONArray("colours")
            val palette = List(colours.length()) { i ->
                colours.getJSONArray(i).ints().fold(0) { all, part -> all shl 8 or part }
            }
            val frame = Vectors.bytes(case.getJSONObject("frame"))
            assertPixels(case, Overlay.masks(frame, Vectors.labels(case.getJSONObject("labels")), palette))
        }
    }

    @Test
    fun depthIsTinted() {
        for (case in Vectors.cases("depth")) {
            val metres = Vectors.floats(case.getJSONObject("metres"))
            var range = DepthRange(case.getDouble("near").toFloat(), case.getDouble("far").toFloat())
            if (!case.getBoolean("rangeIsGiven")) {
                val found = requireNotNull(DepthRange.of(metres))
                assertEquals(range.near, found.near, case.getDouble("rangeTolerance").toFloat())
                assertEquals(range.far, found.far, case.getDouble("rangeTolerance").toFloat())
                range = found
            }
            assertPixels(case, Overlay.depth(Vectors.bytes(case.getJSONObject("frame")), metres, range))
        }
    }

    @Test
    fun patchesHaveTheirColours() {
        for (case in Vectors.cases("pca")) {
            val features = Vectors.floats(case.getJSONObject("features"))
            val mean = Vectors.floats(case.getJSONObject("mean"))
            val axes = Vectors.floats(case.getJSONObject("axes"))
            val given = PatchBasis(
                mean,
                List(3) { c -> FloatArray(mean.size) { axes[it * 3 + c] } },
                case.getJSONArray("low").doubles().map { it.toFloat() }.toFloatArray(),
                case.getJSONArray("high").doubles().map { it.toFloat() }.toFloatArray(),
            )
            val expected = Vectors.floats(case.getJSONObject("expected"))
            assertValues(expected, given.colours(features), case.getDouble("tolerance"), "given axes")
            val found = PatchBasis.of(features, mean.size)
            val tolerance = case.getDouble("basisTolerance")
            for (c in 0 until 3) {
                assertValues(given.axes[c], found.axes[c], tolerance, "axis $c")
                assertEquals(given.low[c].toDouble(), found.low[c].toDouble(), 100 * tolerance)
                assertEquals(given.high[c].toDouble(), found.high[c].toDouble(), 100 * tolerance)
            }
            assertValues(given.mean, found.mean, tolerance, "mean")
        }
    }

    @Test
    fun likelyClassesAreNamed() {
        for (case in Vectors.cases("classes")) {
            val logits = case.getJSONArray("logits").doubles().map { it.toFloat() }.toFloatArray()
            val best = case.getJSONArray("best")
            val found = topClasses(logits, emptyList())
            assertEquals(best.length(), found.size)
            for ((i, likely) in found.withIndex()) {
                assertEquals(best.getJSONArray(i).getInt(0).toString(), likely.name)
                assertEquals(best.getJSONArray(i).getDouble(1), likely.share, case.getDouble("tolerance"))
            }
        }
    }

    @Test
    fun theGovernorChoosesAsRecorded() {
        val section = Vectors.section("governor")
        val said = section.getJSONObject("rules")
        val rules = Rules(
            interval = said.getDouble("interval"),
            burst = said.getInt("burst"),
            burstMisses = said.getInt("burst_misses"),
            window = said.getInt("window"),
            missShare = said.getDouble("miss_share"),
            least = said.getInt("least"),
            room = said.getDouble("room"),
            probation = said.getDouble("probation"),
            backoff = said.getDouble("backoff"),
            longestBackoff = said.getDouble("longest_backoff"),
            relief = said.getDouble("relief"),
            usual = said.getDouble("usual"),
        )
        assertEquals("the rules of this app are those of the traces", rules, Rules())
        val traces = section.getJSONArray("traces")
        assertTrue(traces.length() > 0)
        for (i in 0 until traces.length()) {
            val trace = traces.getJSONObject(i)
            val expected = trace.getJSONArray("expectedMs")
            val known = List(expected.length()) { expected.getJSONArray(it).run { getInt(0) to getDouble(1) } }.toMap()
            val (model, whole) = listOf("budgetMs", "frameBudgetMs").map {
                if (trace.isNull(it)) Double.POSITIVE_INFINITY else trace.getDouble(it)
            }
            val governor = Governor(known, model, trace.getInt("coreCount"), frameBudgetMs = whole)
            val frames = trace.getJSONArray("frames")
            for (j in 0 until frames.length()) {
                val frame = frames.getJSONArray(j)
                val next =
                    governor.observe(frame.getInt(0), frame.getDouble(1), frame.getDouble(2), frame.getDouble(4))
                assertEquals("${trace.getString("name")}, frame $j", frame.getInt(3), next)
            }
        }
    }
}
