package android.os

import java.util.concurrent.Executor

class Bundle(private val values: Map<String, String> = emptyMap()) {
    fun getString(key: String): String? = values[key]
}

object Build {
    @JvmField
    val MANUFACTURER = "veca-edge"

    @JvmField
    val MODEL = "stand-in"

    @JvmField
    val SOC_MODEL = "none"

    @JvmField
    val SUPPORTED_ABIS = arrayOf("arm64-v8a")

    object VERSION {
        @JvmField
        val RELEASE = "15"

        @JvmField
        val SDK_INT = 35
    }

    object VERSION_CODES {
        const val S = 31
    }
}

class PowerManager {
    var currentThermalStatus = THERMAL_STATUS_NONE

    fun interface OnThermalStatusChangedListener {
        fun onThermalStatusChanged(status: Int)
    }

    fun addThermalStatusListener(executor: Executor, listener: OnThermalStatusChangedListener) {
        executor.execute { listener.onThermalStatusChanged(currentThermalStatus) }
    }

    fun removeThermalStatusListener(listener: OnThermalStatusChangedListener) {
    }

    companion object {
        const val THERMAL_STATUS_NONE = 0
        const val THERMAL_STATUS_SEVERE = 3
        const val THERMAL_STATUS_CRITICAL = 4
    }
}
