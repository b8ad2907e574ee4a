package veca.edge

import android.content.Context
import android.os.PowerManager
import android.util.Size
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.resolutionselector.ResolutionSelector
import androidx.camera.core.resolutionselector.ResolutionStrategy
import java.util.concurrent.Executor
import veca.core.Heat
import veca.core.Picture

/** A camera's newest frames, upright; those that come while one is looked at are dropped. */
fun cameraFrames(executor: Executor, onFrame: (Picture) -> Unit): ImageAnalysis {
    val nearest = ResolutionStrategy(Size(640, 480), ResolutionStrategy.FALLBACK_RULE_CLOSEST_HIGHER_THEN_LOWER)
    val analysis = ImageAnalysis.Builder()
        .setResolutionSelector(ResolutionSelector.Builder().setResolutionStrategy(nearest).build())
        .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
        .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
        .setOutputImageRotationEnabled(true)
        .build()
    analysis.setAnalyzer(executor) { image -> image.use { onFrame(it.picture()) } }
    return analysis
}

/** The pixels, which are there until the image is closed. */
fun ImageProxy.picture(): Picture {
    val plane = planes[0]
    return Picture(plane.buffer, width, height, plane.pixelStride, plane.rowStride)
}

/** What one of Android's thermal states means for the model. */
fun heatOf(thermalStatus: Int): Heat = when {
    thermalStatus >= PowerManager.THERMAL_STATUS_CRITICAL -> Heat.CRITICAL
    thermalStatus >= PowerManager.THERMAL_STATUS_SEVERE -> Heat.SEVERE
    else -> Heat.COOL
}

/** Says how hot the phone is, now and at every change, until what is returned is closed. */
fun followHeat(context: Context, executor: Executor, onHeat: (Heat) -> Unit): AutoCloseable {
    val power = context.getSystemService(PowerManager::class.java)
    val listener = PowerManager.OnThermalStatusChangedListener { status -> onHeat(heatOf(status)) }
    power.addThermalStatusListener(executor, listener)
    return AutoCloseable { power.removeThermalStatusListener(listener) }
}
