package veca.camera

import android.app.Application
import android.graphics.Bitmap
import androidx.camera.core.CameraSelector
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.setValue
import androidx.lifecycle.AndroidViewModel
import androidx.lifecycle.LifecycleOwner
import java.nio.ByteBuffer
import java.util.concurrent.Executors
import veca.core.Bundle
import veca.core.Choice
import veca.core.CoreControl
import veca.core.Heat
import veca.core.Picture
import veca.core.Show
import veca.core.Size
import veca.edge.Pipeline
import veca.edge.Shown
import veca.edge.VecaModel
import veca.edge.cameraFrames
import veca.edge.followHeat

/** What the screen has of the newest frame. */
class Seen(val picture: Bitmap, val shown: Shown)

/** Runs the camera's frames through the model, on a thread of its own, while the activity is there. */
class CameraViewModel(application: Application) : AndroidViewModel(application) {
    val bundle = Bundle.declared
    private val control = CoreControl(bundle.coreCounts)
    private val worker = Executors.newSingleThreadExecutor()
    private var pipeline: Pipeline? = null
    private var model: VecaModel? = null
    private var watch: AutoCloseable? = null

    var seen: Seen? by mutableStateOf(null)
        private set
    var message: String? by mutableStateOf(null)
        private set
    var isMeasuring: Boolean by mutableStateOf(false)
        private set
    var heat: Heat by mutableStateOf(Heat.COOL)
        private set
    var choice: Choice by mutableStateOf(Choice.Fixed(bundle.coreCounts.min()))
        private set
    var followsHeat: Boolean by mutableStateOf(true)
        private set

    @Volatile
    var show: Show? = bundle.shows.firstOrNull()

    fun choose(choice: Choice) {
        control.choose(choice)
        this.choice = choice
    }

    fun followHeat(follows: Boolean) {
        control.followsHeat = follows
        followsHeat = follows
    }

    fun refused() {
        message = "Without the camera there is nothing to see. Allow it in the settings of the app."
    }

    /** Binds the camera to the activity. */
    fun start(owner: LifecycleOwner) {
        val application = getApplication<Application>()
        val main = application.mainExecutor
        if (watch == null) {
            watch = followHeat(application, main) { state ->
                control.heat = state
                heat = state
            }
        }
        val waited = ProcessCameraProvider.getInstance(application)
        waited.addListener({
            reported {
                val camera = waited.get()
                camera.unbindAll()
                camera.bindToLifecycle(owner, CameraSelector.DEFAULT_BACK_CAMERA, cameraFrames(worker, ::onFrame))
            }
        }, main)
    }

    override fun onCleared() {
        watch?.close()
        worker.execute { model?.close() }
        worker.shutdown()
    }

    private fun onFrame(picture: Picture) {
        val wanted = show ?: return
        reported {
            val pipeline = pipeline ?: opened()
            if (control.needsLatencies) measure(pipeline)
            val shown = pipeline.run(picture, wanted)
            seen = Seen(bitmap(shown.painting.rgb, shown.size), shown)
            message = null
        }
    }

    private fun opened(): Pipeline {
        val opened = VecaModel.open(getApplication<Application>(), bundle)
        model = opened
        return Pipeline(opened, control, bundle).also { pipeline = it }
    }

    /** For the first budget alone: by hand, the first picture does not wait for every core count. */
    private fun measure(pipeline: Pipeline) {
        isMeasuring = true
        try {
            pipeline.measure()
        } finally {
            isMeasuring = false
        }
    }

    /** Shows what went wrong: a camera that another app holds, a model that LiteRT can't load. */
    private fun reported(action: () -> Unit) {
        try {
            action()
        } catch (error: Exception) {
            message = error.message ?: error.toString()
        }
    }

    private fun bitmap(rgb: ByteArray, size: Size): Bitmap {
        val pixels = ByteBuffer.allocate(size.width * size.height * 4)
        for (i in 0 until size.width * size.height) {
            pixels.put(rgb, i * 3, 3).put(-1)
        }
        pixels.rewind()
        return Bitmap.createBitmap(size.width, size.height, Bitmap.Config.ARGB_8888)
            .apply { copyPixelsFromBuffer(pixels) }
    }
}
