package androidx.activity

import android.app.Application
import android.os.Bundle
import androidx.activity.result.ActivityResultLauncher
import androidx.activity.result.contract.ActivityResultContract
import androidx.lifecycle.LifecycleOwner
import androidx.lifecycle.ViewModel
import java.io.File

open class ComponentActivity : Application(File(".")), LifecycleOwner {
    protected open fun onCreate(savedInstanceState: Bundle?) {}

    fun <I, O> registerForActivityResult(
        contract: ActivityResultContract<I, O>,
        callback: androidx.activity.result.ActivityResultCallback<O>,
    ): ActivityResultLauncher<I> = TODO("$contract $callback")
}

inline fun <reified VM : ViewModel> ComponentActivity.viewModels(): Lazy<VM> = TODO("$this ${VM::class}")
